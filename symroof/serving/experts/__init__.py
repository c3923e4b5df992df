"""Mixtures of experts in service: batch, exchange, micro-batches, speculation, and a dense model instead."""
