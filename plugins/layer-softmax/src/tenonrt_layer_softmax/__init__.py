"""Softmax and Hardmax layers of TenonRT."""
