"""`python -m strokeseg`: the command line."""

from strokeseg.cli import main

if __name__ == "__main__":
    main()
