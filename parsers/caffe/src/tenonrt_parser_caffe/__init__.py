"""Caffe for TenonRT: a parser of prototxt and caffemodel files, and the mappings of Caffe's layers."""
