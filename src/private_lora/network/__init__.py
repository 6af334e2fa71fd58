"""Data owner and workers as separate processes that share nothing but bytes.

wire: what both sides must agree on. client: asks workers and checks their answers. worker: holds weights and answers. tools:
certificates, and a link that is slower than loopback. Must not know of training: a client is a `Place` for products.
"""
