use super::*;

const SCRIPT: &str = r#"{"version": 1, "name": "scripted/demo", "turns": [
  {"values": {"url": {"from_task": true, "regex": "(http://\\S+)"}},
   "text": "I fetch {{url}}.",
   "calls": [{"tool": "clone_repo", "arguments": {"url": "{{url}}", "n": [1, "{{url}}"]}}]},
  {"expects": "cloned", "text": "f-string: {{{x}}}", "calls": [{"tool": "exec", "arguments": {"argv": ["fit"]}}]},
  {"values": {"accuracy": {"from_tool": "exec", "regex": "accuracy: ([0-9.]+)"}},
   "text": "Accuracy {{accuracy}}, truly {{accuracy}}."}
]}"#;

fn user(text: &str) -> Message {
    Message::User { text: text.into() }
}

fn said() -> Message {
    Message::Assistant {
        text: "…".into(),
        calls: vec![],
    }
}

fn told(tool: &str, text: &str) -> Message {
    Message::Tool(ToolAnswer {
        id: CallId::new("x"),
        name: tool.into(),
        text: text.into(),
        ok: true,
    })
}

fn play(messages: &[Message]) -> Result<ChatAnswer, String> {
    let model = ScriptedModel::from_json(SCRIPT).unwrap();
    model.play(messages).map_err(|error| error.to_string())
}

#[test]
fn a_turn_takes_its_values_from_the_task() {
    let answer = play(&[user("clone http://127.0.0.1:1/iris please")]).unwrap();
    assert_eq!(answer.text, "I fetch http://127.0.0.1:1/iris.");
    assert_eq!(
        answer.calls[0].arguments,
        r#"{"url":"http://127.0.0.1:1/iris","n":[1,"http://127.0.0.1:1/iris"]}"#
    );
}

#[test]
fn a_script_cannot_run_past_reality() {
    let error = play(&[user("x"), said(), told("clone_repo", "refused")]).unwrap_err();
    assert!(
        error.contains("turn 2") && error.contains("cloned"),
        "{error}"
    );
    assert!(play(&[user("x"), said(), told("clone_repo", "cloned")]).is_ok());
}

#[test]
fn a_no_of_a_person_is_no_mistake_of_the_script() {
    let no = told("exec", "Not run: you said no: not today.");
    let answer = play(&[user("x"), said(), no]).unwrap();
    assert_eq!((answer.text.as_str(), answer.calls.len()), (DECLINED, 0));
}

#[test]
fn braces_that_are_no_name_are_left_alone() {
    let answer = play(&[user("x"), said(), told("clone_repo", "cloned")]).unwrap();
    assert_eq!(answer.text, "f-string: {{{x}}}");
}

#[test]
fn a_result_is_taken_from_the_last_answer_of_its_tool_and_never_made_up() {
    let history = |last: &str| {
        [
            user("x"),
            said(),
            told("exec", "accuracy: 0.1"),
            said(),
            told("exec", last),
            told("read", "accuracy: 0.5"),
        ]
    };
    let answer = play(&history("test accuracy: 0.973\n")).unwrap();
    assert_eq!(answer.text, "Accuracy 0.973, truly 0.973.");
    let error = play(&history("Traceback")).unwrap_err();
    assert!(
        error.contains("turn 3") && error.contains("exec"),
        "{error}"
    );
}

#[test]
fn the_end_of_a_transcript_is_an_error() {
    let error = play(&[said(), said(), said()]).unwrap_err();
    assert!(error.contains("no further turn"), "{error}");
}

#[test]
fn a_transcript_that_could_not_work_is_refused_when_it_is_read() {
    for (turn, word) in [
        (r#"{"text": "{{nothing}}"}"#, "nothing"),
        (r#"{"expects": "("}"#, "regex"),
        (r#"{"values": {"a": {"regex": "(x)"}}}"#, "from_tool"),
        (
            r#"{"values": {"a": {"from_task": true, "regex": "x"}}}"#,
            "group",
        ),
        (r#"{"txt": "x"}"#, "txt"),
    ] {
        let text = format!(r#"{{"version": 1, "name": "s", "turns": [{turn}]}}"#);
        let error = ScriptedModel::from_json(&text).unwrap_err().to_string();
        assert!(error.contains(word), "{turn}: {error}");
    }
    let text = r#"{"version": 2, "name": "s", "turns": []}"#;
    assert!(ScriptedModel::from_json(text).is_err());
}
