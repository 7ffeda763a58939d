"""`python -m glasscell`: the command line."""

from glasscell._cli.main import main

main()
