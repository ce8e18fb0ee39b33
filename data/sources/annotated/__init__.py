"""Users' own annotated images: COCO JSON, Pascal VOC, and folders of images with mask images.

All give examples of one form, which `pictures` makes: images of one size, boxes and labels padded to the most objects
that any image has, masks, and a semantic map, as far as the files have them. A fault is refused with the file and the
annotation that has it; what is left out is said in the source's `notes`. `coco_export` writes any source with boxes.

`catalogue` imports `coco`, `voc` and `masks` when a set of their kind is loaded.
"""
