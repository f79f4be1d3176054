"""What the machine can bear: of a container, what its group may use."""

import psutil
import torch

from medres.data.readers import memory
from medres.finetuning.machine import machine_facts


def test_a_cpu_may_use_what_its_container_may(tmp_path, monkeypatch):
    for name, text in (("max", 3000), ("now", 1000), ("stat", "inactive_file 500")):
        (tmp_path / name).write_text(str(text))
    group = tuple(str(tmp_path / name) for name in ("max", "now", "stat"))
    monkeypatch.setattr(memory, "_GROUPS", (group,))
    assert machine_facts(torch.device("cpu")).memory_bytes == 2500
    monkeypatch.setattr(memory, "_GROUPS", ())
    free = psutil.virtual_memory()._replace(available=10**6)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    assert machine_facts(torch.device("cpu")).memory_bytes == 10**6
