"""
One connection, from the first byte to the report on its end.

B{The two ends.}  A TCP connection is two streams of bytes, and each ends on its
own: ours when our FIN is out, the peer's when the peer's FIN has come (RFC
9293, 3.6).  Bare Twisted's C{loseConnection} ends both at once.  It stops
reading and closes the socket; a kernel that still receives something for a
closed socket answers with RST, and RST destroys what the peer has not read yet
(RFC 9112, 9.6).  So the end of a connection has several steps here:
flush, send FIN, read on and discard, read the peer's FIN, await the last
acknowledgement, close.  L{twisted_term.connection.machine} is the table of these steps.

B{What is in flight.}  FIN must not overtake what is still to come: a producer
that is registered, work that somebody holds (C{hold}, C{track}), a request that
a protocol has not answered (L{twisted_term.applications}), bytes in a buffer.
The first three keep the machine in C{WORKING}.  The transport itself takes care
of the buffer, because it sends FIN behind what is buffered.

B{The objects.}  The application has a transport that stands in for
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

Other code does not notice the stand-ins: C{isinstance}, interfaces, attributes
and identity are those of the subject (L{twisted_term.standin}).  On an open
connection a write goes straight to Twisted's own method, and received bytes go
straight to the application, so that no code of ours is on the hot path.

B{How control goes.} The application calls the transport; that gives the
connection an input; the machine says what is to be done
(L{twisted_term.connection.outputs} does it, by what lies beneath). What lies
beneath is a descriptor or something opaque, with any number of TLS on top
(L{twisted_term.connection.beneath} has the drawing, and
L{twisted_term.connection.beneath.tls} its own, because control enters Twisted's
TLS there and comes back by methods that are replaced).  In the other direction,
when Twisted reads FIN, writes FIN or loses the connection, it tells the gate, or
calls the methods that we have put in the place of its own on that one transport.
L{twisted_term.connection.replaced} lists all of it, with the reasons.

B{Where to look.}  The peer's FIN comes to the gate (to C{beneath/descriptor.py}, if
another protocol is in between), goes to C{Connection.peerFin} in C{shell.py}, and what
it means is in C{machine.py}.  What is different over TLS is in C{beneath/tls.py}.
Twisted's own objects are changed by C{replaced.py}.  A new optional interface of
transports needs nothing, because the stand-in passes it on; a new one by which
protocols receive belongs in C{receiving.py}.  C{verdict.py} says how a connection has
ended, C{ending.py} keeps account and makes the report, and C{draining.py} is what a
drain does to one connection.

B{What bounds it.}  An open connection has no timer.  When the machine leaves
C{OPEN}, an L{Ending<twisted_term.connection.ending.Ending>} is made.  It knows
who began, and it writes the report.  Most ends are over within milliseconds.
For one that is not, L{Bounds<twisted_term.connection.bounds.Bounds>} look whether
the kernel makes progress, and tell the machine what has expired.  One timer
serves all endings of a reactor (L{twisted_term.connection.timer}).  If the
application has a hook (L{twisted_term.connection.hook}), the connection asks it as
soon as the end has begun, and once more before the socket is closed.

B{What the report can rely on.}  The kernel is asked before the socket is closed,
because Twisted closes the socket first and tells the protocol then.  Each end is
reported once, even if something raises on the way, and an end that an exception,
the reactor's stop, or a reset has caused is never reported as clean.

B{What the report cannot know.}  Nobody can say whether the peer's program has
read what the peer's kernel has acknowledged.  A UNIX socket does not say whether
the other end has read; there, C{delivered} is C{None}.  After both FINs the kernel
has no event for the last acknowledgement (C{tcp_poll} reports hang-up from the
peer's FIN on), so the connection asks the kernel for it, at first every few
milliseconds and later less and less often.
"""
