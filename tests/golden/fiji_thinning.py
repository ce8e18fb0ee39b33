"""Makes fiji_thinning.npz: how Fiji's watershed, by which the challenge ISBI 2012 thins borders, divides maps.

Run by hand, with a JDK (17) and a clone of github.com/fiji/Trainable_Segmentation (its commit 41c7083):
`python fiji_thinning.py CLONE`. Of ImageJ the class needs only images of numbers and places for messages, which stand
below, so that ImageJ is not installed. Only its answers are stored.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

STUBS = {
    "ij/IJ.java": """package ij; public class IJ {
        public static void log(String s) {} public static void showStatus(String s) {}
        public static void showProgress(double p) {} }""",
    "ij/process/ImageProcessor.java": """package ij.process; public class ImageProcessor {
        int width, height; float[] values;
        public ImageProcessor(int w, int h) { width = w; height = h; values = new float[w * h]; }
        public int getWidth() { return width; } public int getHeight() { return height; }
        public float getf(int x, int y) { return values[y * width + x]; }
        public void setf(int x, int y, float v) { values[y * width + x] = v; }
        public double getMin() { float m = values[0]; for (float v : values) m = Math.min(m, v); return m; }
        public double getMax() { float m = values[0]; for (float v : values) m = Math.max(m, v); return m; } }""",
    "ij/process/FloatProcessor.java": """package ij.process; public class FloatProcessor extends ImageProcessor {
        public FloatProcessor(int w, int h) { super(w, h); } }""",
    "Thin.java": """import java.util.Scanner; import ij.process.*;
        public class Thin { public static void main(String[] a) {
            Scanner in = new Scanner(System.in); int h = in.nextInt(), w = in.nextInt();
            ImageProcessor image = new FloatProcessor(w, h);
            for (int y = 0; y < h; y++) for (int x = 0; x < w; x++) image.setf(x, y, in.nextInt() > 0 ? 0 : 255);
            ImageProcessor out = new trainableSegmentation.utils.WatershedTransform2D(image, 4).apply();
            StringBuilder text = new StringBuilder();
            for (int y = 0; y < h; y++) for (int x = 0; x < w; x++) text.append((int) out.getf(x, y)).append(' ');
            System.out.println(text); } }""",
}


def cells(seed, height, width, count, border):
    """Cells around random points with borders of a width, broken here and there; bool [height, width], true inside."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 1, (count, 2)) * (height, width)
    grid = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), -1)
    distances = np.sort(np.linalg.norm(grid[:, :, None] - points, axis=-1), -1)
    return (distances[..., 1] - distances[..., 0] > border) | (rng.uniform(size=(height, width)) < 0.03)


MAPS = {
    "thin": lambda: cells(0, 40, 50, 12, 1.5),
    "wide": lambda: cells(1, 50, 40, 9, 6),
    "noise": lambda: np.random.default_rng(2).uniform(size=(30, 31)) < 0.2,
    "nothing": lambda: np.zeros((5, 7), bool),
}


if __name__ == "__main__":
    clone = Path(sys.argv[1]) / "src" / "main" / "java"
    golden = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, text in STUBS.items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        subprocess.run(["javac", "-sourcepath", f"{folder}:{clone}", "-d", folder, f"{folder}/Thin.java"], check=True)
        for name, make in MAPS.items():
            inside = make()
            given = f"{inside.shape[0]} {inside.shape[1]} " + " ".join(map(str, inside.astype(int).ravel()))
            ended = subprocess.run(
                ["java", "-cp", folder, "Thin"], input=given, capture_output=True, text=True, check=True
            )
            golden[f"{name}_inside"] = inside
            golden[f"{name}_regions"] = np.array(ended.stdout.split(), np.int16).reshape(inside.shape)
    np.savez_compressed(Path(__file__).with_suffix(".npz"), **golden)
