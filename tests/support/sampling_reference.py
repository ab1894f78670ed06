"""Expected numbers for test_model_sampling.c, computed by PyTorch code written for the test.

    /usr/bin/python3 tests/support/sampling_reference.py > tests/support/sampling_expected.inc

Needs python3-torch. The formulas are those of ComfyUI 0.8.0's model samplings and of its RescaleCFG; inputs come from
`numbers`, which the test repeats.
"""
import math

import torch

from control_reference import numbers

SIGMAS = (0.05, 0.7, 3.0, 14.0)
PERCENTS = (0.1, 0.25, 0.5, 0.9)
COUNT = 48  # two pictures of 24 values


def trained_sigmas(zero_snr):
    betas = torch.linspace(0.00085 ** 0.5, 0.012 ** 0.5, 1000, dtype=torch.float64) ** 2
    alphas = torch.cumprod(1.0 - betas, dim=0)
    sigmas = ((1 - alphas) / alphas) ** 0.5
    if zero_snr:
        root = (1 / (sigmas * sigmas + 1)).sqrt()
        first, last = root[0].clone(), root[-1].clone()
        root = (root - last) * (first / (first - last))
        alphas = root ** 2
        alphas[-1] = 4.8973451890853435e-08
        sigmas = ((1 - alphas) / alphas) ** 0.5
    return sigmas


class Discrete:
    data = 1.0

    def __init__(self, zero_snr=False, kept=None):
        self.skip = 1
        sigmas = trained_sigmas(zero_snr).float()
        if kept:
            self.skip = 1000 // kept
            sigmas = sigmas[[999 - (kept - 1 - i) * self.skip for i in range(kept)]]
        self.sigmas = sigmas
        self.logs = sigmas.log()

    def timestep(self, sigma):
        nearest = (sigma.log() - self.logs[:, None]).abs().argmin(dim=0).view(sigma.shape)
        return nearest * self.skip + (self.skip - 1)

    def sigma(self, timestep):
        t = torch.clamp((timestep.float() - (self.skip - 1)) / self.skip, min=0, max=len(self.sigmas) - 1)
        low, high, w = t.floor().long(), t.ceil().long(), t.frac()
        return ((1 - w) * self.logs[low] + w * self.logs[high]).exp()

    def percent(self, p):
        return float(self.sigma(torch.tensor((1.0 - p) * 999.0)))


class Edm:
    def __init__(self, low, high, data=1.0):
        self.data = data
        self.sigmas = torch.linspace(math.log(low), math.log(high), 1000).exp()

    def timestep(self, sigma):
        return 0.25 * sigma.log()

    def sigma(self, timestep):
        return (timestep / 0.25).exp()

    def percent(self, p):
        low, high = math.log(self.sigmas[0]), math.log(self.sigmas[-1])
        return math.exp((high - low) * (1.0 - p) + low)


class Angle(Edm):
    def timestep(self, sigma):
        return sigma.atan() / math.pi * 2

    def sigma(self, timestep):
        return (timestep * math.pi / 2).tan()


def denoised(rule, s, sigma, x, out):
    d = s.data
    if rule == "eps":
        return x - out * sigma
    if rule in ("v", "edm"):
        sign = -1 if rule == "v" else 1
        return x * d ** 2 / (sigma ** 2 + d ** 2) + sign * out * sigma * d / (sigma ** 2 + d ** 2) ** 0.5
    if rule == "lcm":
        t = s.timestep(sigma) * 10.0
        skip, scale = 0.25 / (t ** 2 + 0.25), t / (t ** 2 + 0.25) ** 0.5
        return scale * (x - out * sigma) + skip * x
    return out


def normal(s, steps, sgm=False):
    first, last = s.timestep(s.sigmas[-1]), s.timestep(s.sigmas[0])
    n = steps + 1 if sgm else steps
    return [float(s.sigma(t)) for t in torch.linspace(float(first), float(last), n)[:steps]] + [0.0]


def simple(s, steps):
    stride = len(s.sigmas) / steps
    return [float(s.sigmas[-(1 + int(i * stride))]) for i in range(steps)] + [0.0]


def ddim(s, steps):
    stride = max(len(s.sigmas) // steps, 1)
    return [float(v) for v in reversed([0.0] + [float(s.sigmas[i]) for i in range(1, len(s.sigmas), stride)])]


def rescaled(x, positive, negative, sigma, cfg, multiplier):
    small = x / (sigma * sigma + 1.0)
    a = (small - positive) * (sigma ** 2 + 1.0) ** 0.5 / sigma
    b = (small - negative) * (sigma ** 2 + 1.0) ** 0.5 / sigma
    guided = b + cfg * (a - b)
    dims = (1, 2, 3)
    back = guided * (torch.std(a, dim=dims, keepdim=True) / torch.std(guided, dim=dims, keepdim=True))
    final = multiplier * back + (1.0 - multiplier) * guided
    return small - final * sigma / (sigma * sigma + 1.0) ** 0.5


def show(name, values, per_row=5):
    text = [("%.9g" % v) for v in values]
    print("static const float %s[] = {" % name)
    for i in range(0, len(text), per_row):
        print("    " + ", ".join(v if "." in v or "e" in v else v + ".0" for v in text[i:i + per_row]).replace(",", "f,")
              + "f,")
    print("};")


def main():
    tables = {"eps": Discrete(), "zero": Discrete(zero_snr=True), "lcm": Discrete(kept=50), "edm": Edm(0.002, 120.0, 0.5),
              "angle": Angle(0.03, 500.0)}
    print("/* Made by tests/support/sampling_reference.py. */")
    x = numbers("x", (COUNT,)) * 4.0
    out = numbers("out", (COUNT,))
    for name, s in tables.items():
        at = [torch.tensor(v) for v in SIGMAS]
        show(name + "_timesteps", [float(s.timestep(v)) for v in at])
        show(name + "_percents", [s.percent(p) for p in PERCENTS])
        show(name + "_normal", normal(s, 6))
        show(name + "_sgm", normal(s, 6, True))
        show(name + "_simple", simple(s, 6))
        show(name + "_ddim", ddim(s, 6))
    for rule, table in (("eps", "eps"), ("v", "zero"), ("lcm", "lcm"), ("edm", "edm"), ("x0", "eps")):
        values = [denoised(rule, tables[table], torch.tensor(v), x, out) for v in SIGMAS]
        show(rule + "_denoised", torch.cat([v[:6] for v in values]).tolist())
    shape = (2, 4, 2, 3)
    positive = numbers("positive", (COUNT,))
    negative = numbers("negative", (COUNT,)) * 1.5
    show("rescale_07", torch.cat([rescaled(x.view(shape), positive.view(shape), negative.view(shape), torch.tensor(v), 7.0,
                                           0.7).flatten() for v in (0.7, 14.0)]).tolist())


if __name__ == "__main__":
    main()
