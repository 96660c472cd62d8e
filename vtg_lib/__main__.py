"""`python -m vtg_lib`, the same as `vtg`."""

from vtg_lib.cli.main import main

if __name__ == "__main__":  # spawned workers import this file, and must not start the command again
    raise SystemExit(main())
