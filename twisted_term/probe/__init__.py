"""
C{term-probe}: does any given server lose data when it closes?

It plays clients that are awkward and within their rights, and compares what
each of them gets with what a polite one gets.  Nothing here needs the rest of
L{twisted_term}, nor a reactor: these clients must be able to stop reading, to
half-close, and to tell a FIN from a RST behind it, and a reactor hides all of that.
"""
