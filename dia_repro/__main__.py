"""`python -m dia_repro` is `dia-repro`."""

import sys

from dia_repro import interrupts


def main() -> None:
    """Run the command line and exit with its code."""
    interrupts.install()  # before the imports, which take long enough for a Ctrl-C
    try:
        from dia_repro.cli.main import main as run

        run()
    except (interrupts.Interrupted, KeyboardInterrupt):
        interrupts.ignore()
        print("dia-repro: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
