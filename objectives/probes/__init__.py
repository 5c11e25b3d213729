"""Probes: what a base model is like, besides its loss. Correlates of plasticity, not goals.

A probe is a pure function of a pretrained base and fixed data. Bases of one program are probed as
lanes; what was found on each base is a stage of the store, so it is measured once. A probe that
does not fit a model gives a note in place of metrics.

A metric's name in a result is `probe.<probe>.<metric>`; its probe's row in PROBES says what it
is, its module where it comes from.
"""
