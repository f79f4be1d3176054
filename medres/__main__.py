"""``medres`` and ``python -m medres``."""

from __future__ import annotations

from medres.runs.host_warnings import shown_warnings


def main() -> None:
    """Run the command line."""
    with shown_warnings():
        from medres.cli import run

        run()


if __name__ == "__main__":
    main()
