//! `fumehood images`: made, pulled, listed, shown, removed. Progress goes to standard error, the id that came of
//! it to standard output.

use super::args::{ImagesArgs, ImagesCommand};
use super::doors::Answers;
use super::failure::{self, Failure};
use super::policy::{self, Chosen};
use super::{print, question, request, say};
use crate::app::{self, AppError, ImageBuild, ListedImage};
use crate::config::Config;
use crate::context::sanitise::visible;
use crate::images::{About, Made};
use crate::policy::model::Decision;
use anstyle::Style;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::ExitCode;

const DIM: Style = Style::new().dimmed();

/// Digits of an id in a table.
const SHORT: usize = 19;

pub(super) async fn images(config: &Config, args: ImagesArgs) -> Result<ExitCode, Failure> {
    match args.command {
        ImagesCommand::Build {
            name,
            base,
            network,
            arguments,
        } => {
            let asked = ImageBuild {
                name: &name,
                base: base.as_deref(),
                network: network.as_deref(),
                arguments: pairs(&arguments)?,
            };
            build(config, &asked).await?;
        }
        ImagesCommand::Pull {
            reference,
            name,
            policy,
            set,
        } => {
            let chosen = Chosen {
                set: &set,
                ..Chosen::named(&policy)
            };
            pull(config, &chosen, (&reference, name.as_deref())).await?;
        }
        ImagesCommand::Import { source, name } => {
            let asked = (source.as_str(), name.as_str());
            let (made, about) = app::import_image(config, asked).await.map_err(failed)?;
            say(&format!("{} is unpacked: {}", made.name, contents(&about)));
            print(&made.id)?;
        }
        ImagesCommand::List { json } => {
            let all = app::list_images(config).await.map_err(failed)?;
            match json {
                true => print(&shown(&Value::from_iter(all.iter().map(as_json)))?)?,
                false => table(&all)?,
            }
        }
        ImagesCommand::Show { name, json } => show(config, &name, json).await?,
        ImagesCommand::Remove { name } => {
            let (made, asked) = app::remove_image(config, &name).await.map_err(failed)?;
            say(&format!("{} is forgotten ({})", made.name, made.id));
            if !asked {
                say("no engine answered: what it has of the image is still there");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn pairs(typed: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let pair = |text: &String| {
        let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty())?;
        Some((name.to_owned(), value.to_owned()))
    };
    typed
        .iter()
        .map(|text| {
            pair(text).ok_or_else(|| {
                Failure::new(
                    format!("--arg {}: it has no value", visible(text)),
                    failure::USAGE,
                )
                .remedy(Some("write it as NAME=VALUE"))
            })
        })
        .collect()
}

async fn build(config: &Config, asked: &ImageBuild<'_>) -> Result<(), Failure> {
    let mut hears = |line: &str| say(&format!("{DIM}{}{DIM:#}", visible(line)));
    let made = app::build_image(config, asked, &mut hears)
        .await
        .map_err(failed)?;
    print(&made.id)
}

async fn pull(
    config: &Config,
    chosen: &Chosen<'_>,
    asked: (&str, Option<&str>),
) -> Result<(), Failure> {
    let policy = policy::effective(config, chosen)?.loaded.policy;
    let (reference, name) = asked;
    let pinned = app::may_pull(&policy, reference).map_err(failed)?;
    if policy.approval.typed == Decision::Ask {
        confirm(reference).await?;
    }
    let mut hears = |line: &str| say(&format!("{DIM}{}{DIM:#}", visible(line)));
    let made = app::pull_image(config, &pinned, name, &mut hears)
        .await
        .map_err(failed)?;
    say(&format!("it is {} here: --image {}", made.name, made.name));
    print(&made.id)
}

/// Where the policy asks about what is typed, too.
async fn confirm(reference: &str) -> Result<(), Failure> {
    let denied = |why: &str| {
        Failure::new(
            format!("{} is not pulled: {why}", visible(reference)),
            failure::DENIED,
        )
    };
    if Answers::of(false) != Answers::Person {
        return Err(denied(
            "the policy asks about it, and there is no terminal to ask at",
        ));
    }
    let asked = format!(
        "Pull {}? y for yes, any other key for no",
        visible(reference)
    );
    match question::key(&asked).await {
        Ok(b'y') => Ok(()),
        Ok(_) => Err(denied("you said no")),
        Err(error) => Err(denied(&format!("the terminal cannot be asked: {error}"))),
    }
}

async fn show(config: &Config, name: &str, json: bool) -> Result<(), Failure> {
    let all = app::list_images(config).await.map_err(failed)?;
    let Some(image) = all.iter().find(|image| image.made.name == name) else {
        let unknown = app::image_store(config).unknown(name);
        return Err(failed(unknown.into()));
    };
    if json {
        return print(&shown(&as_json(image))?);
    }
    let Made {
        name,
        id,
        made,
        from,
        pulled,
    } = &image.made;
    let from = (pulled.as_ref()).map_or(from, |pulled| &pulled.reference);
    print(&format!(
        "{name}@{id}\nmade   {made}\nfrom   {}\nwhere  {}",
        visible(from),
        places(image)
    ))
}

fn table(all: &[ListedImage]) -> Result<(), Failure> {
    if all.is_empty() {
        say("there is no image yet; build one: fumehood images build base");
        return Ok(());
    }
    let rows = all.iter().map(|image| {
        let Made { name, id, made, .. } = &image.made;
        let id = id.get(..SHORT).unwrap_or_default();
        format!("{name:<16} {id}  {made}  {}", places(image))
    });
    print(&rows.collect::<Vec<_>>().join("\n"))
}

fn places(image: &ListedImage) -> String {
    let unpacked = image.unpacked.as_ref().map(|about| {
        let contents = contents(about);
        format!("unpacked ({contents})")
    });
    let engine = match image.in_engine {
        Some(true) => Some("engine"),
        Some(false) => None,
        None => Some("no engine answers"),
    };
    match (unpacked, engine) {
        (Some(unpacked), Some(engine)) => format!("{unpacked}, {engine}"),
        (Some(unpacked), None) => unpacked,
        (None, Some(engine)) => engine.to_owned(),
        (None, None) if image.made.pulled.is_some() => "nowhere: pull it again".to_owned(),
        (None, None) => "nowhere: build it again".to_owned(),
    }
}

fn contents(about: &About) -> String {
    let mebibytes = about.bytes.div_ceil(1 << 20);
    format!("{} files, {mebibytes} MiB", about.files)
}

fn as_json(image: &ListedImage) -> Value {
    let Made {
        name,
        id,
        made,
        from,
        pulled,
    } = &image.made;
    json!({
        "name": name,
        "id": id,
        "made": made,
        "from": from,
        "pulled": pulled,
        "in_engine": image.in_engine,
        "unpacked": image.unpacked,
    })
}

fn shown(value: &Value) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map_err(|error| Failure::of(&error, failure::USAGE))
}

fn failed(error: AppError) -> Failure {
    request::app_failure(&error, request::app_code(&error))
}
