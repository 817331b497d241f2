"""
What lies beneath a connection: the kernel, descriptors, TLS.
"""
