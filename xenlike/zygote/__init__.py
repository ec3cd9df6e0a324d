"""The template process: a warm interpreter that forks domains.

It is started clean (no mapping of the hypervisor's), imports what every domain needs, and then forks twice
for each one, so that the domain becomes a child of the hypervisor and outlives its zygote.
"""
