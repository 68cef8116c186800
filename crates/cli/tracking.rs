//! How an MLflow server is asked: what `serve` and `reconcile` have in common.

use clap::Args;
use server::mlflow::MlflowOptions;

#[derive(Args, Clone)]
pub struct Tracking {
    /// An alias that stands for a deployment, with its environment: where it moves, the deployment of the model's name serves
    /// the new version
    #[arg(long, value_name = "ALIAS=ENVIRONMENT", value_parser = deployed)]
    mlflow_deployed: Vec<(String, String)>,
    /// Sent to MLflow as a bearer token; user and password may stand in the address instead
    #[arg(long, env = "MLFLOW_TRACKING_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    mlflow_token: Option<String>,
}

impl Tracking {
    pub fn options(&self, address: &str) -> MlflowOptions {
        MlflowOptions {
            address: address.to_owned(),
            token: self.mlflow_token.clone().filter(|token| !token.is_empty()),
            deployed: self.mlflow_deployed.clone(),
        }
    }
}

fn deployed(text: &str) -> Result<(String, String), String> {
    server::mlflow::deployed(text).map_err(|error| error.to_string())
}
