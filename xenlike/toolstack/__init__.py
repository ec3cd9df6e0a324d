"""The toolstack: what turns a description into running domains, and keeps the books on them."""
