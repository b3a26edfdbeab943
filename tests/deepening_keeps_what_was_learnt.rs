//! Does a stage start from the best network of the one before, and is a deepened network that nothing later beats the
//! model that is kept, with all its layers, on any number of ranks?
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/program.rs"]
mod program;

#[test]
fn a_stage_that_undoes_the_network_costs_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data.h5");
    program::generate(&data, 500, 12, 3, 45);
    // From so small a ν, which never grows, the deepened network is undone in an iteration and learns nothing anew.
    let common = "--neurons 16 --iterations 30 --nu 0.03 --penalty-growth 1";
    let shallow = scratch.path().join("shallow");
    program::train(None, 1, &data, &shallow, &format!("{common} --layers 2"));
    let deep = format!("{common} --stages 2,6 --nu-restart 1e-7");
    let expected = program::summary(&shallow);
    let mut models = Vec::new();
    for ranks in [1, 3] {
        let launcher = if ranks > 1 { program::launcher() } else { None };
        let output = scratch.path().join(ranks.to_string());
        program::train(launcher.as_ref(), ranks, &data, &output, &deep);
        let summary = program::summary(&output);
        assert_eq!(summary["best"], expected["best"], "{ranks} ranks");
        let accuracies = program::column(&output, "val_accuracy");
        let top = accuracies.iter().fold(0.0, |top: f64, &accuracy| top.max(accuracy));
        assert_eq!(summary["best"]["val"], top);
        assert!(accuracies[30..].iter().all(|accuracy| *accuracy < top), "{accuracies:?}");

        let model = output.join("model.h5");
        let mut predict = program::alone();
        predict.args(["predict", "--data"]).arg(&data).arg("--model").arg(&model).arg("--output");
        let printed = program::succeed(predict.arg(scratch.path().join(format!("{ranks}.h5")))).stdout;
        let line = format!("  val      {top:.4} ");
        assert!(printed.contains(&line), "no {line:?} in\n{printed}");
        models.push(program::weights(&model));
        assert_eq!(models[0].len(), 6);
    }
    assert!(models[0] == models[1], "the models of 1 and 3 ranks differ");
}
