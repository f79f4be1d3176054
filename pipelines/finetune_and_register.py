"""Fine-tune on a folder of labelled scans, look at the score, and register the model if it is good enough.

    python pipelines/finetune_and_register.py scans/ --arch resnet50 --name ct-nodules --least-auroc 0.8

A hospital copies this file and changes the rule. The rule reads the *lower* bound of the interval: a lucky point
estimate on few patients registers nothing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import medres
from medres.errors import MedresError


def main() -> int:
    """Run the program and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="labelled scans")
    parser.add_argument("--arch", default="resnet50")
    parser.add_argument("--weights", default="auto")
    parser.add_argument("--name", required=True, help="name in the model registry")
    parser.add_argument("--least-auroc", type=float, default=0.8, help="required lower bound of the interval")
    parser.add_argument("--output", type=Path, default=Path("runs"))
    parser.add_argument("--epochs", type=int, default=None)
    arguments = parser.parse_args()
    try:
        return finetune_and_register(arguments)
    except MedresError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def finetune_and_register(arguments: argparse.Namespace) -> int:
    """Train, judge, register; return 0 where a version was registered and 1 where the model was not good enough."""
    run = medres.finetune(
        arguments.data,
        arch=arguments.arch,
        weights=arguments.weights,
        output=arguments.output,
        epochs=arguments.epochs,
    )
    auroc = run.summary()["scores"]["auroc"]
    print(f"AUROC {auroc['value']:.3f} ({auroc['low']:.3f} to {auroc['high']:.3f}), {auroc['n_patients']} patients")
    if auroc["low"] < arguments.least_auroc:
        print(f"not registered: the lower bound is below {arguments.least_auroc}; see {run.report_path}")
        return 1
    version = medres.register(run.path, name=arguments.name, alias="candidate", output=arguments.output)
    print(f"registered {version.uri}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
