"""`python -m dia_repro` is `dia-repro`."""

from dia_repro.cli.main import main

if __name__ == "__main__":
    main()
