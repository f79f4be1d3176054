"""``medres`` and ``python -m medres``."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from medres.cli import run

    run()


if __name__ == "__main__":
    main()
