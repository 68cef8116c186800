//! Who may see what: policies, and the decisions that they give.
