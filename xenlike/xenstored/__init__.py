"""The store daemon: a tree, its watches and transactions, and the wire in front of them.

What a request means is decided by code that does no I/O and never waits:

    operations, control  what each message does, and which error it is answered with
    store                sessions, dispatch, firing of watches
    tree, transactions   nodes; a transaction is a tree on top of the tree
    watches, rules       who is told of what, and who may do what

Around it, one epoll loop (`server`) moves bytes between sockets (`sockets`) or store rings
(`rings`) and that core, and writes what changed to a log (`log`, `records`) before it answers.

The behaviour is that of Xen's C xenstored 4.17 (docs/misc/xenstore.txt and what the daemon does).
"""
