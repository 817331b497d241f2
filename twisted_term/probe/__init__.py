"""
C{term-probe}: does a server, any server, lose data when it closes?

It plays clients that are awkward and within their rights, and compares what
each of them gets with what a polite one gets.  Nothing here needs the rest of
L{twisted_term}, nor a reactor: the point is to not read, to half-close, and to
tell a FIN from a RST behind it, and a reactor is made to spare one all of that.
"""
