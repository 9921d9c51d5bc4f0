"""Object detection layers: prior boxes, detection output, suppression, region proposals, ROI pooling."""
