"""A network as a graph of named vertices, and how a PyTorch module becomes one."""

from __future__ import annotations

from tlkit.graph.network import Landmarks, Network, Vertex

__all__ = ["Landmarks", "Network", "Vertex"]
