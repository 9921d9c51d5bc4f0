"""What Caffe's layer types mean, as functions of plain values."""
