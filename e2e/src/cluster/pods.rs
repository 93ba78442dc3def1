//! What pods say, and what can be run in them.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::Api;
use kube::api::{AttachParams, ListParams, LogParams};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::{Namespace, wait_for};
use crate::watchword::LIMIT;

/// What a program that ran in a container has left.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExecOutput {
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
    /// Its exit code.
    pub code: i32,
}

impl ExecOutput {
    /// Standard output as text, if the exit code is 0.
    ///
    /// # Errors
    ///
    /// If it is another one; the message has the standard error.
    pub fn success(self) -> Result<String> {
        let Self { stdout, stderr, code } = self;
        if code != 0 {
            bail!("exit code {code}: {}", String::from_utf8_lossy(&stderr).trim());
        }
        String::from_utf8(stdout).context("standard output is not text")
    }
}

impl Namespace {
    /// The log of a container, or of the only one.
    ///
    /// # Errors
    ///
    /// If the container has not been started.
    pub async fn logs(&self, pod: &str, container: Option<&str>) -> Result<String> {
        let parameters =
            LogParams { container: container.map(str::to_owned), ..LogParams::default() };
        self.api::<Pod>()
            .logs(pod, &parameters)
            .await
            .with_context(|| format!("cannot read the log of pod `{pod}`"))
    }

    /// Runs a program in a container and waits for its end.
    ///
    /// # Errors
    ///
    /// If the program cannot be run there; any exit code is a success.
    pub async fn exec(
        &self,
        pod: &str,
        container: Option<&str>,
        arguments: &[&str],
    ) -> Result<ExecOutput> {
        let mut parameters = AttachParams::default().stdout(true).stderr(true).stdin(false);
        if let Some(container) = container {
            parameters = parameters.container(container);
        }
        let mut process = self
            .api::<Pod>()
            .exec(pod, arguments.iter().copied(), &parameters)
            .await
            .with_context(|| format!("cannot exec in pod `{pod}`"))?;
        let (stdout, stderr) = (process.stdout(), process.stderr());
        let status = process.take_status().context("exec without a status")?;
        let (stdout, stderr, status) = tokio::join!(read(stdout), read(stderr), status);
        process.join().await.context("exec ended badly")?;
        let status = status.context("exec ended without a status")?;
        Ok(ExecOutput { stdout: stdout?, stderr: stderr?, code: exit_code(&status)? })
    }

    /// What a program prints in a container, once it ends there with 0: on a busy machine one may
    /// not come to run at once.
    ///
    /// # Errors
    ///
    /// If it has not after [`LIMIT`].
    pub async fn printed(
        &self,
        pod: &str,
        container: Option<&str>,
        arguments: &[&str],
    ) -> Result<String> {
        wait_for(&format!("`{}` in pod `{pod}`", arguments.join(" ")), LIMIT, async || {
            self.exec(pod, container, arguments).await?.success()
        })
        .await
    }

    /// Waits until a pod is in a phase, such as `Running` or `Succeeded`, and returns it.
    ///
    /// # Errors
    ///
    /// If it is not there in time; the message says what its containers wait for.
    pub async fn pod_phase(&self, pod: &str, phase: &str, limit: Duration) -> Result<Pod> {
        let api: Api<Pod> = self.api();
        wait_for(&format!("pod `{pod}` to be {phase}"), limit, async || {
            let pod = api.get(pod).await?;
            if pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some(phase) {
                return Ok(pod);
            }
            bail!("{}", summary(&pod))
        })
        .await
    }

    /// Waits until a pod is ready, and returns it.
    ///
    /// # Errors
    ///
    /// If it is not in time; the message says what its containers wait for.
    pub async fn pod_ready(&self, pod: &str, limit: Duration) -> Result<Pod> {
        let api: Api<Pod> = self.api();
        wait_for(&format!("pod `{pod}` to be ready"), limit, async || {
            let pod = api.get(pod).await?;
            if is_ready(&pod) { Ok(pod) } else { bail!("{}", summary(&pod)) }
        })
        .await
    }

    /// Waits until exactly `count` pods have a label, all of them ready, and returns them.
    ///
    /// # Errors
    ///
    /// If that is not so in time; the message says what there is.
    pub async fn pods_ready(
        &self,
        selector: &str,
        count: usize,
        limit: Duration,
    ) -> Result<Vec<Pod>> {
        let api: Api<Pod> = self.api();
        let parameters = ListParams::default().labels(selector);
        wait_for(&format!("{count} ready pods with {selector}"), limit, async || {
            let pods = api.list(&parameters).await?.items;
            if pods.len() == count && pods.iter().all(is_ready) {
                return Ok(pods);
            }
            let summaries: Vec<String> = pods.iter().map(summary).collect();
            bail!("{} pods: {}", pods.len(), summaries.join("; "))
        })
        .await
    }
}

/// How often containers of a pod were started again.
pub fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.into_iter().flatten().map(|status| status.restart_count).sum()
}

/// Whether the pod's Ready condition is true and it is not being deleted.
fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.into_iter().flatten().any(|is| is.type_ == "Ready" && is.status == "True")
}

/// One line on a pod: its phase, and what each container waits for or ended with.
pub(super) fn summary(pod: &Pod) -> String {
    let name = pod.metadata.name.as_deref().unwrap_or("?");
    let Some(status) = &pod.status else { return format!("{name}: no status") };
    let mut text = format!("{name}: {}", status.phase.as_deref().unwrap_or("no phase"));
    if let Some(message) = &status.message {
        text.push_str(&format!(" ({message})"));
    }
    for condition in status.conditions.iter().flatten().filter(|is| is.status != "True") {
        if let Some(message) = &condition.message
            && condition.type_ == "PodScheduled"
        {
            text.push_str(&format!(" (not scheduled: {message})"));
        }
    }
    let containers = [&status.init_container_statuses, &status.container_statuses];
    for container in containers.into_iter().flatten().flatten() {
        let Some(state) = &container.state else { continue };
        let what = if let Some(waiting) = &state.waiting {
            let message = waiting.message.as_deref().unwrap_or_default();
            format!("waits, {} {message}", waiting.reason.as_deref().unwrap_or("no reason"))
        } else if let Some(terminated) = &state.terminated {
            let message = terminated.message.as_deref().unwrap_or_default();
            format!("ended with {} {message}", terminated.exit_code)
        } else if container.ready {
            "ready".to_owned()
        } else {
            "runs".to_owned()
        };
        text.push_str(&format!(", {}: {}", container.name, what.trim_end()));
        if container.restart_count > 0 {
            text.push_str(&format!(" (restarts: {})", container.restart_count));
        }
    }
    text
}

/// The exit code that the status channel of an exec tells.
fn exit_code(status: &Status) -> Result<i32> {
    if status.status.as_deref() == Some("Success") {
        return Ok(0);
    }
    let causes = status.details.as_ref().and_then(|details| details.causes.as_ref());
    causes
        .into_iter()
        .flatten()
        .find(|cause| cause.reason.as_deref() == Some("ExitCode"))
        .and_then(|cause| cause.message.as_deref()?.parse().ok())
        .with_context(|| status.message.clone().unwrap_or_else(|| "no exit code".to_owned()))
}

async fn read(stream: Option<impl AsyncRead + Unpin>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        stream.read_to_end(&mut bytes).await.context("cannot read a stream of exec")?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_exit_code_is_read_from_the_causes() {
        let read = |value| exit_code(&serde_json::from_value(value).unwrap());

        assert_eq!(read(json!({"status": "Success"})).unwrap(), 0);
        assert_eq!(
            read(json!({"status": "Failure", "details": {"causes": [
                {"reason": "ExitCode", "message": "78"}]}}))
            .unwrap(),
            78
        );
        let error = read(json!({"status": "Failure", "message": "no such file"})).unwrap_err();
        assert_eq!(error.to_string(), "no such file");
    }

    #[test]
    fn a_summary_says_what_each_container_waits_for() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "web"},
            "status": {
                "phase": "Pending",
                "initContainerStatuses": [{
                    "name": "init", "ready": false, "restartCount": 2, "image": "", "imageID": "",
                    "state": {"terminated": {"exitCode": 78, "message": "not found"}}}],
                "containerStatuses": [{
                    "name": "app", "ready": false, "restartCount": 0, "image": "", "imageID": "",
                    "state": {"waiting": {"reason": "PodInitializing"}}}],
            },
        }))
        .unwrap();

        assert_eq!(
            summary(&pod),
            "web: Pending, init: ended with 78 not found (restarts: 2), \
             app: waits, PodInitializing"
        );
    }
}
