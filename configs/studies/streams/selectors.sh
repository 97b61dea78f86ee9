#!/usr/bin/env bash
# bash configs/studies/streams/selectors.sh DIR
# Trains the LSTMs of the studies along streams, three seeds each, from the DAVIS sequences and the weights below DIR: for PETS one of each student
# from twelve sequences; of Yolo-Fastest also, for each half of DAVIS, one from the other half. How the students learn meanwhile is what
# results/pets_fastest/chosen.json and results/pets_tiny/chosen.json say.
set -euo pipefail
videos=$1/davis16/videos weights=$1/weights
names=$weights/yolo_fastest/coco.names

learn() { # name, seed, sequences to learn from, sequences to be judged by; the student and how it learns
  vidkd train_selector $(printf "$videos/%s.mp4 " $3) --validate $(printf "$videos/%s.mp4 " $4) --joined --records 4 --seed "$2" \
    --student-runtime onnx --score 0.05 --threads 1 --names "$names" \
    --oracle "$weights/yolox_nano/yolox_nano_raw_0.1.1.onnx" --oracle-metadata configs/studies/streams/models/yolox_nano.yaml \
    --oracle-score 0.25 --out "runs/selectors/$1_$2.pt" "${@:5}"
}

fastest=(--student "$weights/yolo_fastest/yolo-fastest-1.1.cfg" --weights "$weights/yolo_fastest/yolo-fastest-1.1.weights" --resize stretch
  --update.interpolate [] --update.trains all --update.lr 0.0001 --update.options.iou_loss ciou --update.options.iou_normalizer 2.0)
tiny=(--student "$weights/yolov3_tiny/yolov3-tiny-m123.cfg" --weights "$weights/yolov3_tiny/yolov3-tiny.weights"
  --update.interpolate [] --update.trains all --update.lr 3e-05)
nine="dance-twirl car-roundabout dog horsejump-high breakdance drift-chicane bmx-trees goat soapbox"
three="libby paragliding-launch scooter-black"

for seed in 0 1 2; do
  learn fastest_davis $seed "$nine" "$three" "${fastest[@]}"
  learn tiny_davis $seed "$nine" "$three" "${tiny[@]}"
  learn fastest_first_half $seed "breakdance drift-chicane bmx-trees goat" "libby soapbox" "${fastest[@]}" # judges the stream first_half
  learn fastest_second_half $seed "dance-twirl car-roundabout horsejump-high paragliding-launch" "dog scooter-black" "${fastest[@]}"
done
