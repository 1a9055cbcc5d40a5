"""Translates how Nano-U trains: teacher, optimiser, monitor, rounding."""

from training.nano_u_keys import Keys
from training.nano_u_names import NANO_U, bu_net_layers, nano_u_layers


def translate_recipe(keys: Keys) -> None:
    """Translates the keys of a network's section in `training`, but those of its images."""
    distilled = _translate_distillation(keys)
    _translate_optimisation(keys, distilled=distilled)
    _translate_early_stopping(keys)
    _translate_monitor(keys)
    _translate_quantization(keys)


def _translate_distillation(keys: Keys) -> bool:
    """Sets the weight of a teacher, and returns whether there is one."""
    nested = keys.own("distillation.")
    key, value, enabled = keys.take(keys.own("use_distillation"), f"{nested}enabled")
    if not enabled:
        keys.note(key, value, "a teacher turns it on here: --distill-from")
        for name in ("alpha", "temperature", "teacher_weights"):
            keys.drop(keys.own(name), "distillation is off")
        keys.drop_all(nested, "distillation is off")
        return False
    keys.note(key, value, "a teacher turns it on here: --distill-from, see teacher_weights")
    for name, default in (("alpha", 0.3), ("temperature", 4.0)):
        remark = "the weight of the teacher, as in Nano-U's code" * (name == "alpha")
        both = (keys.own(name), nested + name)
        keys.move(*both, to=f"distillation.{name}", default=default, remark=remark)
    key, value, _ = keys.take(keys.own("teacher_weights"), f"{nested}teacher_weights")
    keys.note(key, value, "train the teacher here, and give its run's folder to --distill-from")
    return True


def _translate_optimisation(keys: Keys, *, distilled: bool) -> None:
    epochs = keys.move(keys.own("epochs"), to="training.epochs", default=100 if distilled else 50)
    keys.move(keys.own("batch_size"), to="training.batch_size", default=16)
    rate = 5e-4 if distilled else 1e-3
    keys.move(keys.own("learning_rate"), to="training.learning_rate", default=rate)
    keys.move(keys.own("weight_decay"), to="training.weight_decay", default=0.0)
    keys.drop(keys.own("optimizer"), "always AdamW here; without weight decay, that is Adam")
    key, value, schedule = keys.take(keys.own("lr_scheduler"), default="")
    plateau = str(schedule).lower() == "plateau"
    remark = "" if plateau else "it never triggers: Nano-U's learning rate stays constant"
    keys.put(key, value, "training.schedule", "plateau", remark)
    if plateau:
        patience, factor = keys.own("lr_plateau_patience"), keys.own("lr_plateau_factor")
        keys.move(patience, to="training.plateau_patience", default=5)
        keys.move(factor, to="training.plateau_factor", default=0.2)
        keys.move(keys.own("min_lr"), to="training.minimum_learning_rate", default=1e-6)
    else:
        keys.put(key, value, "training.plateau_patience", epochs)
        for name in ("lr_plateau_patience", "lr_plateau_factor", "min_lr"):
            keys.drop(keys.own(name), "lr_scheduler is not plateau")
    keys.move("training.seed", to="training.seed")


def _translate_early_stopping(keys: Keys) -> None:
    key, value, stops = keys.take(keys.own("early_stopping"), default=False)
    if not stops:
        keys.put(key, value, "training.early_stopping_patience", None)
        keys.drop(keys.own("patience"), "early_stopping is off")
        return
    remark = "epochs without a better val_miou; Nano-U watches val_loss"
    ours = "training.early_stopping_patience"
    keys.note(key, value, "", ours=ours)
    keys.move(keys.own("patience"), to=ours, default=10, remark=remark)


def _translate_monitor(keys: Keys) -> None:
    keys.move(keys.own("use_nas"), to="nas.enabled", default=False)
    frequency = keys.own("nas_frequency")
    keys.move(frequency, to="nas.log_frequency", default=10, remark="epochs, as in Nano-U")
    default = ["enc1a_dw", "enc1a_pw"]
    key, value, layers = keys.take(keys.own("layers_to_monitor"), default=default)
    names = nano_u_layers() if keys.model == NANO_U else bu_net_layers()
    layers = [str(layer) for layer in layers] if isinstance(layers, list) else [str(layers)]
    known = [names[layer] for layer in layers if layer in names]
    foreign = [layer for layer in layers if layer not in names]
    if known:
        remark = f"no layer here for {', '.join(foreign)}" if foreign else ""
        keys.put(key, value, "nas.probe_layers", known, remark)
    else:
        keys.note(key, value, "no layer here has these names: the probes are watched")


def _translate_quantization(keys: Keys) -> None:
    key, value, aware = keys.take(keys.own("qat_enabled"), default=True)
    if keys.model == NANO_U:
        remark = "activations are rounded from training.quantization_start on, 0.75 of the epochs"
        keys.put(key, value, "training.quantization_aware", aware, remark * bool(aware))
    else:
        keys.note(key, value, "only nano_u is trained so, in Nano-U and here")
