"""
C{python -m twisted_term.probe}.
"""

from .command import main

if __name__ == "__main__":
    main()
