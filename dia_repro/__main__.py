"""`python -m dia_repro` is `dia-repro`."""

import sys

from dia_repro import interrupts


def main() -> None:
    """Run the command line and exit with its code."""
    interrupts.install()  # before the imports, which take long enough for a Ctrl-C
    try:
        from dia_repro.cli.main import main as run

        run()
    except (interrupts.Interrupted, KeyboardInterrupt, Exception) as error:
        if isinstance(error, Exception) and not interrupts.count():
            raise
        interrupts.ignore()  # it may have come as another error, of code that was interrupted
        print("dia-repro: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
