"""MatrixMultiply and FullyConnected layers of TenonRT."""
