"""The parser of frozen TensorFlow graphs. It lives beside that of UFF, whose operations are TensorFlow's."""
