"""
One connection, from the first byte to the report on its end.

B{The two ends.}  A TCP connection is two streams of bytes, and each ends on its
own: ours when our FIN is out, the peer's when the peer's FIN has come (RFC
9293, 3.6).  Bare Twisted's C{loseConnection} ends both at once.  It stops
reading and closes the socket; a kernel that still receives something for a
closed socket answers with RST, and RST destroys what the peer has not read yet
(RFC 9112, 9.6).  So the end of a connection is a walk here and not a step:
flush, FIN, go on reading for nobody, the peer's FIN, the last acknowledgement,
close.  L{twisted_term.connection.machine} is that walk, as a table.

B{What is in flight.}  FIN must not overtake what is still to come: a producer
that is registered, work that somebody holds (C{hold}, C{track}), a request that
a protocol has not answered (L{twisted_term.applications}), bytes in a buffer.
The first three keep the machine in C{WORKING}; the last one is the transport's
own, for FIN goes behind what is buffered.

B{Who stands where.}  The application has a transport that stands in for
Twisted's, and Twisted has a protocol that stands in for the application's.
Between the two is the connection::

    application  <------------------------------------------+
        |                                                   |
        | write, loseConnection, hold ...                   | dataReceived,
        v                                                   | connectionLost
    TerminatingTransport      Connection  <------------  Gate
    (transport.py)   ------>  (shell.py,                 (gate.py)
        |                      outputs.py)                  |
        |                      |  ^   |                     ^
        | write                |  |   +--> Ending           |
        |                      v  |        (ending.py)      | dataReceived
        |                    Beneath                        |
        |                    (beneath/)                     |
        v                      |  ^                         |
    Twisted's transport  <-----+  +-- what is replaced -----+

The stand-ins are not noticed: C{isinstance}, interfaces, attributes and
identity are those of the subject (L{twisted_term.standin}).  A write goes
straight to Twisted's own method while what is written is sent, and what is
received goes straight to the application while it is delivered: nothing of ours
is on the hot path of an open connection.

B{How control goes.} The application calls the transport; that gives the
connection an input; the machine says what is to be done
(L{twisted_term.connection.outputs} does it, by what lies beneath). What lies
beneath is a descriptor or something opaque, with any number of TLS on top
(L{twisted_term.connection.beneath} has the drawing, and
L{twisted_term.connection.beneath.tls} its own, because control enters Twisted's
TLS there and comes back by methods that are replaced). And back: Twisted reads
FIN, writes FIN, loses the connection, and tells the gate, or calls what we have
put in the place of its methods on that one transport.
L{twisted_term.connection.replaced} lists all of it, with the reasons.

B{What bounds it.}  An open connection has no timer.  When the machine leaves
C{OPEN}, an L{Ending<twisted_term.connection.ending.Ending>} is made.  It knows
who began, and it writes the report.  Most ends are over within milliseconds.
For one that is not, L{Bounds<twisted_term.connection.bounds.Bounds>} look whether
the kernel makes progress, and tell the machine what has expired.  One timer
serves all endings of a reactor (L{twisted_term.connection.sweep}).  If the
application has a word of its own in it (L{twisted_term.connection.hook}), it is
asked as soon as the end has begun, and once more before the socket is closed.

B{What is honest.}  The kernel is asked before the socket is gone, because Twisted
closes it first and tells the protocol then.  An end is told once, whatever
raises on the way, and never as clean if an exception, the reactor's stop, or a
reset has brought it.

B{What we are not sure of.}  Whether a peer has got what its kernel has
acknowledged, nobody can say.  A UNIX socket does not say either whether the
other end has read; there, C{delivered} is C{None}.  And after both FINs the
kernel has no event for the last acknowledgement (C{tcp_poll} reports hang-up
from the peer's FIN on), so that it is looked for, at first every few
milliseconds and later less and less often.
"""
