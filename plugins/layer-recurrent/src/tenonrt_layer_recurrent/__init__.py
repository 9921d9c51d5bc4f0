"""LSTM, GRU and RNN layers for TenonRT."""
