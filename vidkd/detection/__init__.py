"""Detection along a stream: metrics, labelled boxes, the offline stream, online distillation, and the choice of key frames."""
