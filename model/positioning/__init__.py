"""Positioning from radio channels: data, features, training and evaluation (demand M8).

``python -m model.positioning prepare|train|evaluate``. Data are the LuViRA measurements where a
user has them, or channels that :mod:`model.positioning.room` computes along measured paths.
"""
