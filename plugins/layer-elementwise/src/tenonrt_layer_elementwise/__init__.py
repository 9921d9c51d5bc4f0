"""Elementwise arithmetic, comparison, logic, selection and conversion, as TenonRT layer types."""
