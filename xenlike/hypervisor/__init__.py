"""The trusted process: domains, frames, grants, event channels, and nothing else.

It knows no protocol and no driver, and stays out of the data path: a hypercall happens when something is
connected, not when a request is made.

    loop.py         one epoll: reads a message, answers it
    hypercalls.py   from a message to a reply, by Xen's numbers
    call.py         one call under way
    *_op.py, domctl.py   the operations, one file for each hypercall
    hypervisor.py   the domain table: birth, shutdown, death, burial; joining of event channels
    domain.py       what is known of one domain
    frames.py       private RAM, and windows of grantable memory
    grants.py       map, unmap and copy against the granter's shared table
    events.py       ports, states and the pipes that carry events
    births.py       asking the zygote for forks
    orphans.py      processes that domains started and left behind
"""
