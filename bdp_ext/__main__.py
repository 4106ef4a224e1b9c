"""`python -m bdp_ext`: the same as `bdp`."""

from bdp_ext.cli import main

if __name__ == "__main__":
    main()
