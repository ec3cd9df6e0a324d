"""What runs inside a domain; nothing here trusts a peer.

runtime.py      from a forked process to a running entry
domain.py       a domain seen from inside
hypercalls.py   the hypercall client
memory.py       private RAM, windows of grantable pages
grants.py       granting pages, mapping those of peers
events.py       event channels
store.py        the xenstore client
console.py      the console ring
resources.py    what the toolstack opened and handed over
reference.py    names of Python objects that another process is to find
"""
