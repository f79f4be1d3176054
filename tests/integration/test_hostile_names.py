"""Names that speak to terminals and spreadsheets: shown, held, and read back as they were."""

from __future__ import annotations

import csv
import json
import stat
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import medres
from medres.data.sources import load_scans
from tests.integration.conftest import ARCH, command

CLASSES = ("be\x1b]0;owned\x07nign", "+mal\x1b[2Jignant")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    rng = np.random.default_rng(0)
    for index in range(12):
        place = folder / CLASSES[index % 2] / f"=s\r\nmedres: no findings\x9b{index}.png"
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (40, 40), dtype=np.uint8)).save(place)
    (folder / CLASSES[0] / "=s\r\nmedres: no findings\x9b0.png").write_bytes(b"no picture")
    return folder


def _obeyed(text: str) -> set[str]:
    return {character for character in text if not character.isprintable()} - {"\n"}


def test_the_terminal_shows_them(hostile: Path) -> None:
    for options in ([], ["--json"]):
        found = command("inspect", hostile, *options)
        assert (found.returncode, _obeyed(found.stdout + found.stderr)) == (1, set())
        assert not [line for line in found.stdout.splitlines() if line.strip().startswith("medres: no findings")]
    refused = command("finetune", "--data", hostile, "--arch", ARCH, "--weights", "none")
    assert (refused.returncode, _obeyed(refused.stdout + refused.stderr)) == (1, set())
    assert "=s\\r\\nmedres: no findings\\x9b0.png" in refused.stderr  # named, as text, in the line of its finding


def test_tables_hold_them_and_give_them_back(hostile: Path, tmp_path: Path) -> None:
    (hostile / CLASSES[0] / "=s\r\nmedres: no findings\x9b0.png").unlink()
    run = medres.finetune(
        hostile, arch=ARCH, weights="none", folds=2, epochs=1, output=tmp_path, name="run", tracking=False
    )
    assert set(run.predictions["label"]) == set(CLASSES)
    run.model.predict([hostile]).to_csv(tmp_path / "out.csv")
    for path in (run.folder.predictions, run.folder.scans, run.folder.mapping, tmp_path / "out.csv"):
        rows = list(csv.reader(path.open(newline="")))
        assert len(rows) >= 12
        assert not [cell for row in rows for cell in row if cell[:1] in "=+@" and cell], path.name
    again = load_scans(hostile, labels=run.folder.scans)
    assert sorted((scan.path, scan.label) for scan in again) == sorted(
        (path, path.parent.name) for path in hostile.rglob("*.png")
    )


def test_local_files_are_for_their_owner(run: medres.Run) -> None:
    private = [run.folder.scans, run.folder.findings, run.folder.mapping, run.folder.salt]
    cache = run.path.parent / "cache"
    private += [path for path in cache.rglob("*") if path.is_file() and path.suffix in (".bin", ".json")]
    assert len(private) > 6
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}
    folders = [cache, *(path.parent for path in cache.rglob("segment-*.bin"))]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o700}
    assert stat.S_IMODE(run.folder.predictions.stat().st_mode) == 0o644  # may leave
    json.loads(run.folder.findings.read_text())
