#!/usr/bin/env bash
# bash configs/studies/streams/selectors.sh DIR
# Trains the LSTMs of the studies along streams, three seeds each, from the DAVIS sequences and the weights below DIR: for PETS one of each student
# from twelve sequences; of Yolo-Fastest also, for each half of DAVIS, one from the other half. How the students learn meanwhile is in configs/tkd/.
set -euo pipefail
videos=$1/davis16/videos weights=$1/weights

learn() { # name, seed, sequences to learn from, sequences to be judged by, configuration and student
  vidkd train_selector $(printf "$videos/%s.mp4 " $3) --validate "$(printf "$videos/%s.mp4," $4)" --seed "$2" --config "$5" \
    --model "$weights/$6.cfg" --weights "$weights/$7.weights" --names "$weights/yolo_fastest/coco.names" \
    --oracle "$weights/yolox_nano/yolox_nano_raw_0.1.1.onnx" --threads 1 --out "runs/selectors/$1_$2.pt"
}

fastest=(tkd/selector_fastest yolo_fastest/yolo-fastest-1.1 yolo_fastest/yolo-fastest-1.1)
tiny=(tkd/selector_tiny yolov3_tiny/yolov3-tiny-m123 yolov3_tiny/yolov3-tiny)
nine="dance-twirl car-roundabout dog horsejump-high breakdance drift-chicane bmx-trees goat soapbox"
three="libby paragliding-launch scooter-black"

for seed in 0 1 2; do
  learn fastest_davis $seed "$nine" "$three" "${fastest[@]}"
  learn tiny_davis $seed "$nine" "$three" "${tiny[@]}"
  learn fastest_first_half $seed "breakdance drift-chicane bmx-trees goat" "libby soapbox" "${fastest[@]}" # judges the stream first_half
  learn fastest_second_half $seed "dance-twirl car-roundabout horsejump-high paragliding-launch" "dog scooter-black" "${fastest[@]}"
done
