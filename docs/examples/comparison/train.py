import argparse

from sklearn.datasets import load_wine
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--c", type=float)
    parser.add_argument("--gamma", type=float)
    args = parser.parse_args()
    model = make_pipeline(StandardScaler(), SVC(C=args.c, gamma=args.gamma))
    scores = cross_val_score(model, *load_wine(return_X_y=True), cv=5)
    print(f"accuracy={scores.mean():.4f}")
