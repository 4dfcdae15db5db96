//! A real browser without windows, driven by Chromium's DevTools protocol over a pipe.
//!
//! One page at a time; no request leaves the machine. What goes wrong in the page is kept, for the test to look at.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::fetch::Kit;

/// How long one command may take before the browser counts as hanging.
const LIMIT: Duration = Duration::from_secs(60);

/// A browser with one page.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    commands: ChildStdin,
    answers: Receiver<Value>,
    session: Option<String>,
    serial: u64,
    loaded: bool,
    /// Exceptions of scripts and errors on the console.
    pub errors: Vec<String>,
    /// What the page asked for.
    pub requests: Vec<String>,
}

impl Browser {
    /// Fetch a browser, unless it is there, and start it with a window of so many pixels. `dark`: its user prefers that.
    ///
    /// # Panics
    /// If it cannot be had or started.
    pub fn start(folder: &Path, width: u32, height: u32, dark: bool) -> Self {
        let kit = Kit::Browser.fetch().unwrap_or_else(|error| panic!("{error}"));
        let fonts = folder.join("fonts.conf");
        let listed = format!(
            "<?xml version=\"1.0\"?><!DOCTYPE fontconfig SYSTEM \"fonts.dtd\"><fontconfig><dir>{}</dir><cachedir>{}</cachedir><alias><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias></fontconfig>",
            kit.join("usr/share/fonts").display(),
            folder.join("fonts").display()
        );
        std::fs::write(&fonts, listed).expect("it is our folder");
        let triple = format!("{}-linux-gnu", std::env::consts::ARCH);
        let libraries = [
            format!("usr/lib/{triple}"),
            format!("lib/{triple}"),
            format!("usr/lib/{triple}/pulseaudio"),
        ];
        let libraries = libraries.map(|path| kit.join(path).display().to_string()).join(":");
        let mut command = Command::new("sh");
        command
            // It reads commands from descriptor 3 and answers on 4.
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 0</dev/null 1>&2"])
            .arg(kit.join("usr/lib/chromium/chromium-headless-shell"))
            .args(["--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
            .args(["--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND"])
            .arg(format!("--user-data-dir={}", folder.join("profile").display()))
            .env("LD_LIBRARY_PATH", libraries)
            .env("FONTCONFIG_FILE", fonts)
            .env("HOME", folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(folder.join("browser.log")).expect("it is our folder"));
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let commands = child.stdin.take().expect("it was asked for");
        let (sender, answers) = channel();
        let mut told = BufReader::new(child.stdout.take().expect("it was asked for"));
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            while told.read_until(0, &mut bytes).is_ok_and(|count| count > 0) {
                bytes.pop();
                let Ok(value) = serde_json::from_slice(&bytes) else { break };
                if sender.send(value).is_err() {
                    break;
                }
                bytes.clear();
            }
        });
        let mut browser = Self {
            child,
            commands,
            answers,
            session: None,
            serial: 0,
            loaded: false,
            errors: Vec::new(),
            requests: Vec::new(),
        };
        let target = browser.command("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.command("Target.attachToTarget", attach);
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Network", "Log"] {
            browser.command(&format!("{domain}.enable"), json!({}));
        }
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        browser.command("Emulation.setDeviceMetricsOverride", size);
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        browser.command("Emulation.setEmulatedMedia", media);
        browser
    }

    /// One command, and its answer.
    ///
    /// # Panics
    /// If it is refused, or no answer comes.
    pub fn command(&mut self, method: &str, params: Value) -> Value {
        self.serial += 1;
        let mut message = json!({"id": self.serial, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        let written = self.commands.write_all(&bytes);
        written.unwrap_or_else(|error| panic!("{method}: the browser has ended: {error}"));
        loop {
            let mut told = self.next(method);
            if told["id"] != json!(self.serial) {
                self.hear(&told);
                continue;
            }
            assert!(told.get("error").is_none(), "{method}: {}", told["error"]);
            return told["result"].take();
        }
    }

    fn next(&self, waits_for: &str) -> Value {
        let told = self.answers.recv_timeout(LIMIT);
        told.unwrap_or_else(|error| panic!("{waits_for}: no answer, see browser.log: {error}"))
    }

    /// What the browser tells by itself.
    fn hear(&mut self, told: &Value) {
        let params = &told["params"];
        match told["method"].as_str() {
            Some("Page.loadEventFired") => self.loaded = true,
            Some("Runtime.exceptionThrown") => {
                self.errors.push(params["exceptionDetails"].to_string())
            }
            Some("Log.entryAdded") if params["entry"]["level"] == "error" => {
                self.errors.push(params["entry"].to_string());
            }
            Some("Network.requestWillBeSent") => {
                let url = params["request"]["url"].as_str().unwrap_or_default();
                self.requests.push(url.to_owned());
            }
            _ => {}
        }
    }

    /// Open a file, and wait until it is loaded.
    pub fn open(&mut self, file: &Path) {
        self.loaded = false;
        let url = format!("file://{}", file.display());
        let opened = self.command("Page.navigate", json!({"url": url}));
        assert!(opened.get("errorText").is_none(), "{url}: {opened}");
        while !self.loaded {
            let told = self.next("load");
            self.hear(&told);
        }
    }

    /// The value of an expression in the page; promises are awaited.
    ///
    /// # Panics
    /// If it throws.
    pub fn value(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let mut result = self.command("Runtime.evaluate", params);
        assert!(result.get("exceptionDetails").is_none(), "{expression}: {result}");
        result["result"]["value"].take()
    }

    /// Press and release the left button there.
    pub fn click(&mut self, x: f64, y: f64) {
        for kind in ["mouseMoved", "mousePressed", "mouseReleased"] {
            let button = if kind == "mouseMoved" { "none" } else { "left" };
            let params = json!({"type": kind, "x": x, "y": y, "button": button, "clickCount": 1});
            self.command("Input.dispatchMouseEvent", params);
        }
    }

    /// Turn the wheel there; less than nothing is away from the user.
    pub fn wheel(&mut self, x: f64, y: f64, by: f64) {
        let params = json!({"type": "mouseWheel", "x": x, "y": y, "deltaX": 0, "deltaY": by});
        self.command("Input.dispatchMouseEvent", params);
    }

    /// Press a key that writes this text, or has this name.
    pub fn key(&mut self, key: &str) {
        let mut down = json!({"type": "keyDown", "key": key});
        if key.chars().count() == 1 {
            down["text"] = json!(key);
        }
        self.command("Input.dispatchKeyEvent", down);
        self.command("Input.dispatchKeyEvent", json!({"type": "keyUp", "key": key}));
    }

    /// Press Enter.
    pub fn enter(&mut self) {
        let down = json!({"type": "keyDown", "key": "Enter", "windowsVirtualKeyCode": 13});
        self.command("Input.dispatchKeyEvent", down);
        self.command("Input.dispatchKeyEvent", json!({"type": "keyUp", "key": "Enter"}));
    }

    /// What can be seen, as a PNG in base64.
    pub fn screenshot(&mut self) -> String {
        let shot = self.command("Page.captureScreenshot", json!({"format": "png"}));
        shot["data"].as_str().expect("a screenshot has data").to_owned()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
