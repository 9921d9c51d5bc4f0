"""Object detection layers: prior boxes, detection output, region proposals, ROI pooling."""
