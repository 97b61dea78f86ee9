"""Options that darknet's trainer and its drawing read and that leave the network as it is: allowed in a cfg, kept, never used."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


NET_TRAINING = _words("""
    adam angle aspect attention augment_speed b1 b2 batch blur burn_in center cutmix decay dynamic_minibatch ema_alpha ema_start_iters eps
    exposure flip gaussian_noise hue learning_rate letter_box loss_scale max_batches max_chart_loss max_crop min_crop mixup momentum mosaic
    mosaic_bound noadjust num_sigmas_reject_badlabels object_skip optimized_memory policy power random resize_step saturation scale scales
    seq_scales sgdr_cycle sgdr_mult show_receptive_field step steps subdivisions time_steps track weights_reject_freq
""")

LAYER_TRAINING = _words("burnin_update decay learning_rate momentum onlyforward stopbackward train_only_bn")

YOLO_TRAINING = _words("""
    beta_nms cls_normalizer counters_per_class delta_normalizer focal_loss ignore_thresh iou_loss iou_normalizer iou_thresh iou_thresh_kind
    jitter label_smooth_eps map max max_delta nms_kind obj_normalizer objectness_smooth random resize show_details track_history_size
    truth_thresh
""")
