//! `write` and `edit`.

use super::look::may_look;
use super::{Off, answer, beneath, on_disk, parse};
use crate::context::sanitise::visible;
use crate::policy::action::FileAction;
use crate::policy::gate::decide_file;
use crate::policy::permit::{Permit, digest_of_bytes};
use crate::protocol::message::ToolSpec;
use crate::tools::bench::Bench;
use crate::tools::desk::About;
use crate::tools::{CallContext, Tool, ToolOutput, ToolStop};
use crate::workspace::{Beneath, Edited, MAX_EDIT, Written};
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// Largest text that is written in one call.
const MAX_WRITE: usize = 8 * 1024 * 1024;

/// A permit for a write: decided, and the decision on disk.
fn may_write(bench: &Bench, path: &Beneath, content: &[u8]) -> Result<Permit<FileAction>, Off> {
    let act = FileAction::Write {
        path: path.as_path().to_owned(),
        content: digest_of_bytes(content),
    };
    let about = About::act(&act);
    let verdict = decide_file(bench.policy(), act);
    bench
        .desk()
        .settle_unasked(&about, verdict)?
        .map_err(|denial| Off::Said(denial.to_string()))
}

/// Does what was permitted, and nothing else: the bytes must be those that were decided about.
async fn write(
    bench: &Arc<Bench>,
    permit: Permit<FileAction>,
    content: Vec<u8>,
) -> Result<Written, Off> {
    let FileAction::Write {
        path,
        content: decided,
    } = permit.into_act()
    else {
        return Err(Off::Said("the permit is for something else".to_owned()));
    };
    if digest_of_bytes(&content) != decided {
        return Err(Off::Said("the permit is for another text".to_owned()));
    }
    let path = Beneath::parse(&path)?;
    on_disk(bench, move |bench| bench.workspace().write(&path, &content)).await
}

pub(super) struct WriteTool(pub(super) Arc<Bench>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WriteArguments {
    path: String,
    content: String,
}

#[async_trait]
impl Tool for WriteTool {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "write".into(),
            description:
                "Writes a whole file of the workspace, making its folders; a file that is \
                there is replaced. For a small change use `edit`."
                    .into(),
            schema: json!({
                "type": "object",
                "properties": {
                    "path": {"type": "string", "description": "relative to the workspace"},
                    "content": {"type": "string", "description": "the whole text"}
                },
                "required": ["path", "content"],
                "additionalProperties": false
            }),
        }
    }

    async fn call(&self, arguments: Value, _: &CallContext) -> Result<ToolOutput, ToolStop> {
        answer("write", self.write(arguments).await)
    }
}

impl WriteTool {
    async fn write(&self, arguments: Value) -> Result<String, Off> {
        let WriteArguments { path, content } = parse(arguments)?;
        let path = beneath(&path)?;
        check_size(&content)?;
        let permit = may_write(&self.0, &path, content.as_bytes())?;
        let lines = content.lines().count();
        let bytes = content.len();
        let written = write(&self.0, permit, content.into_bytes()).await?;
        let how = match written {
            Written::New => "new",
            Written::Replaced => "replaced",
        };
        let name = visible(&path.as_path().to_string_lossy());
        Ok(format!(
            "wrote {name} ({lines} lines, {bytes} bytes, {how})"
        ))
    }
}

fn check_size(content: &str) -> Result<(), Off> {
    match content.len() > MAX_WRITE {
        true => Err(Off::Said(format!(
            "the text has {} bytes, over the bound of {MAX_WRITE}; nothing was written",
            content.len()
        ))),
        false => Ok(()),
    }
}

pub(super) struct EditTool(pub(super) Arc<Bench>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EditArguments {
    path: String,
    old: String,
    new: String,
}

#[async_trait]
impl Tool for EditTool {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "edit".into(),
            description: format!(
                "Replaces a text in a file of the workspace (at most {} MiB). `old` must be in the \
                 file exactly once, to the last space; give enough of the lines around it.",
                MAX_EDIT / 1024 / 1024
            ),
            schema: json!({
                "type": "object",
                "properties": {
                    "path": {"type": "string", "description": "relative to the workspace"},
                    "old": {"type": "string", "description": "the text as it stands"},
                    "new": {"type": "string", "description": "the text to put there"}
                },
                "required": ["path", "old", "new"],
                "additionalProperties": false
            }),
        }
    }

    async fn call(&self, arguments: Value, _: &CallContext) -> Result<ToolOutput, ToolStop> {
        answer("edit", self.edit(arguments).await)
    }
}

impl EditTool {
    async fn edit(&self, arguments: Value) -> Result<String, Off> {
        let EditArguments { path, old, new } = parse(arguments)?;
        let path = beneath(&path)?;
        check_size(&new)?;
        let looked = FileAction::Read {
            path: path.as_path().to_owned(),
        };
        let permit = may_look(&self.0, looked)?;
        let inner = Beneath::parse(permit.act().path())?;
        let (gone, come) = (old.lines().count(), new.lines().count());
        let Edited { line, after, .. } = on_disk(&self.0, move |bench| {
            bench.workspace().edited(&inner, &old, &new)
        })
        .await?;
        let permit = may_write(&self.0, &path, after.as_bytes())?;
        write(&self.0, permit, after.into_bytes()).await?;
        let name = visible(&path.as_path().to_string_lossy());
        let gone = match gone {
            1 => "1 line".to_owned(),
            gone => format!("{gone} lines"),
        };
        Ok(format!(
            "edited {name} at line {line}: {gone} became {come}"
        ))
    }
}
