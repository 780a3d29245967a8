//! Cards: each printed code contains exactly what was sold, and invalid requests get a sentence.

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use futures_util::future::join_all;
use hayro::hayro_interpret::InterpreterSettings;
use hayro::hayro_syntax::Pdf;
use hayro::hayro_syntax::page::Page;
use hayro::vello_cpu::Pixmap;
use hayro::{RenderCache, RenderSettings};
use image::{ExtendedColorType, ImageEncoder as _, codecs::jpeg::JpegEncoder, codecs::png::PngEncoder};
use serde_json::{Value, json};
use shop_server::cards::{CardsRequest, Fonts};
use support::{NODE, Served, TIMEOUT, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Pixels per point: 288 dots per inch, like an ordinary printer. People move their phone until a code is read, so a code that the
/// reader misses at one resolution is tried at others.
const SCALES: [f32; 4] = [4.0, 3.0, 5.0, 3.5];

/// A link to a node, like those that the shop sells.
fn string(node: usize) -> String {
    let names = ["Alice", "Дмитрий", "张伟", "🦀", "a%2Fb+c", "N".repeat(32).leak()];
    let name: String = url_encode(names[node % names.len()]);
    let rune = rune(node);
    format!(
        "https://shop.example/connect#address={NODE}@shop.example:443&type=direct&value=wss:\
         &rune={rune}\
         &path=%2Fe%2F1800000000-0819da5d%2F{node}&name={name}&color=df20{node:02x}"
    )
}

/// A rune as long as an attendee's, which lists what it permits.
fn rune(node: usize) -> String {
    let bytes: Vec<_> = (0..408_usize)
        .map(|at| u8::try_from((at * at + 7 * at * node + node) % 251).expect("small"))
        .collect();
    URL_SAFE.encode(bytes)
}

fn url_encode(text: &str) -> String {
    text.bytes().map(|b| ["%", &hex(b)].concat()).collect()
}

fn hex(byte: u8) -> String {
    format!("{byte:02X}")
}

fn strings(count: usize) -> Vec<String> {
    (0..count).map(string).collect()
}

fn picture(width: u32, height: u32) -> Vec<u8> {
    (0..width * height).flat_map(|n| [u8::try_from(n % 251).expect("small"), 100, 200]).collect()
}

fn png(width: u32, height: u32) -> String {
    let mut bytes = vec![];
    PngEncoder::new(&mut bytes)
        .write_image(&picture(width, height), width, height, ExtendedColorType::Rgb8)
        .expect("a picture");
    format!("data:image/png;base64,{}", STANDARD.encode(bytes))
}

/// A picture of one colour, which is small however many pixels it has.
fn blank_png(width: u32, height: u32) -> String {
    let mut bytes = vec![];
    let pixels = vec![0; (width * height) as usize];
    PngEncoder::new(&mut bytes)
        .write_image(&pixels, width, height, ExtendedColorType::L8)
        .expect("a picture");
    format!("data:image/png;base64,{}", STANDARD.encode(bytes))
}

fn jpeg(width: u32, height: u32) -> String {
    let mut bytes = vec![];
    JpegEncoder::new(&mut bytes)
        .write_image(&picture(width, height), width, height, ExtendedColorType::Rgb8)
        .expect("a picture");
    format!("data:image/jpeg;base64,{}", STANDARD.encode(bytes))
}

/// The contents of the codes, page by page, on pages with this many columns and rows of cards.
fn read(pdf: Vec<u8>, columns: usize, rows: usize) -> Vec<Vec<String>> {
    let pdf = Pdf::new(std::sync::Arc::new(pdf)).expect("a PDF");
    let read_page = |page: &Page<'_>| -> Vec<String> {
        let mut cells = vec![None; columns * rows];
        for scale in SCALES {
            if cells.iter().any(Option::is_none) {
                let drawn = render(page, scale);
                for (at, cell) in cells.iter_mut().enumerate().filter(|(_, cell)| cell.is_none()) {
                    *cell = read_cell(&drawn, (at % columns, at / columns), (columns, rows));
                }
            }
        }
        cells.into_iter().flatten().collect()
    };
    pdf.pages().iter().map(read_page).collect()
}

fn render(page: &Page<'_>, scale: f32) -> Pixmap {
    let settings = RenderSettings { x_scale: scale, y_scale: scale, ..RenderSettings::default() };
    hayro::render(page, &RenderCache::new(), &InterpreterSettings::default(), &settings)
}

/// The content of a card's code. Codes are read one at a time, as by a phone.
fn read_cell(
    drawn: &Pixmap,
    (column, row): (usize, usize),
    (columns, rows): (usize, usize),
) -> Option<String> {
    let (width, height) = (usize::from(drawn.width()), usize::from(drawn.height()));
    let (cell_width, cell_height) = (width / columns, height / rows);
    let gray = |x: usize, y: usize| {
        let pixel = drawn.data()[(row * cell_height + y) * width + column * cell_width + x];
        // The background is the paper.
        if pixel.a < 128 { 255 } else { pixel.g }
    };
    let mut image = rqrr::PreparedImage::prepare_from_greyscale(cell_width, cell_height, gray);
    let grids = image.detect_grids();
    assert!(grids.len() <= 1, "one code a card");
    Some(grids.first()?.decode().ok()?.1)
}

fn draw(request: &Value) -> Vec<u8> {
    let request = CardsRequest::from_json(request.to_string().as_bytes()).expect("a request");
    request.check().expect("it can be drawn").draw(&Fonts::built_in()).expect("it is drawn")
}

#[test]
fn every_printed_code_contains_its_connection_string() {
    let all = strings(64);
    let request = json!({
        "connection_strings": all, "title": "A title that is long enough to be cut in two", "logo": png(300, 100),
    });
    let pages = read(draw(&request), 2, 4);
    let read = pages.concat();
    let missing: Vec<_> = (0..64).filter(|node| !read.contains(&all[*node])).collect();
    assert_eq!(missing, [0; 0], "{} were read", read.len());
    assert!(pages.iter().zip(all.chunks(8)).all(|(page, cards)| page == cards), "another order");
}

#[test]
fn a_label_has_one_card() {
    let few = strings(3);
    let pages =
        read(draw(&json!({"connection_strings": few, "paper": "label_4x6", "logo": jpeg(200, 300)})), 1, 1);
    assert_eq!(pages, few.iter().map(|one| vec![one.clone()]).collect::<Vec<_>>());
}

#[test]
fn the_longest_string_can_still_be_read() {
    let long = string(0);
    let longer = "A".repeat(1200 - long.len());
    let long = long.replacen("&rune=", &format!("&rune={longer}"), 1);
    assert_eq!(long.len(), 1200);
    assert_eq!(read(draw(&json!({"connection_strings": [long], "paper": "label_4x6"})), 1, 1), [[long]]);
}

/// The picture of a PDF's first page.
fn first_page(pdf: &[u8]) -> Vec<u8> {
    let pdf = Pdf::new(std::sync::Arc::new(pdf.to_vec())).expect("a PDF");
    render(pdf.pages().first().expect("a page"), 1.0).data_as_u8_slice().to_vec()
}

#[test]
fn cards_are_in_the_language_that_is_asked_for_and_in_english_for_old_pages() {
    let all = strings(8);
    for (paper, columns, rows) in [("a4", 2, 4), ("label_4x6", 1, 1)] {
        let old = draw(&json!({"connection_strings": all, "paper": paper}));
        let [english, spanish] = ["en", "es"]
            .map(|language| draw(&json!({"connection_strings": all, "paper": paper, "language": language})));
        assert!(old == english, "{paper}");
        for (pdf, language, title) in
            [(&english, "en", "Lightning nodes"), (&spanish, "es", "Nodos Lightning")]
        {
            let bytes = String::from_utf8_lossy(pdf);
            assert!(bytes.contains(&format!("/Lang ({language})")), "{language}");
            assert!(bytes.contains(&format!("/Title ({title})")), "{language}");
        }
        assert!(first_page(&english) != first_page(&spanish), "{paper}: the same words");
        assert_eq!(read(spanish, columns, rows).concat(), all, "{paper}");
    }
}

#[test]
fn the_same_cards_are_the_same_bytes() {
    let request = json!({"connection_strings": strings(9), "title": "Événement"});
    assert_eq!(draw(&request), draw(&request));
}

async fn site() -> Served {
    serve(|_, _| {}).await
}

#[tokio::test]
async fn cards_are_a_file_that_is_not_cached() {
    let site = site().await;
    let answer = site.post("/cards.pdf", &json!({"connection_strings": strings(1)}).to_string()).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/pdf"), "{}", answer.text());
    assert_eq!(answer.header("cache-control"), "no-store");
    assert!(answer.body.starts_with(b"%PDF-"));
    assert_eq!(site.get("/cards.pdf").await.status, 405);
}

#[tokio::test]
async fn invalid_requests_get_a_sentence_that_does_not_repeat_them() {
    let site = site().await;
    let one = string(1);
    let with = |key: &str, value: Value| {
        let mut request = json!({"connection_strings": [one]});
        request[key] = value;
        request.to_string()
    };
    let list = |strings: Vec<String>| json!({"connection_strings": strings}).to_string();
    // Its header claims 40,000 pixels on a side, which contradicts its checksum.
    let mut tampered = STANDARD.decode(png(8, 8).rsplit_once(',').expect("data").1).expect("base64");
    tampered[16..24].copy_from_slice(&[0, 0, 0x9c, 0x40, 0, 0, 0x9c, 0x40]);
    let tampered = format!("data:image/png;base64,{}", STANDARD.encode(tampered));
    let cases = [
        (String::new(), 400, "it is not JSON"),
        ("[".repeat(1_000_000), 400, "this is not a request for cards"),
        ("{}".into(), 400, "a key is missing"),
        (with("secret", json!("hunter2")), 400, "a key is missing, unknown or wrong"),
        (with("paper", json!("a5")), 400, "a key is missing, unknown or wrong"),
        (with("language", json!("fr")), 400, "a key is missing, unknown or wrong"),
        (with("language", json!("")), 400, "a key is missing, unknown or wrong"),
        (with("connection_strings", json!("hunter2")), 400, "a key is missing, unknown or wrong"),
        (list(vec![]), 422, "0 connection strings were given; 1 to 64 are allowed"),
        (list(strings(65)), 422, "65 connection strings were given"),
        (list(vec!["hunter2".into(); 10_000]), 422, "10000 connection strings were given"),
        (list(vec![one.clone(), "x".repeat(1 << 20)]), 422, "connection string 2 is longer than 1200 bytes"),
        (list(vec![one.clone(), "hunter2".into()]), 422, "connection string 2 is not a link to a node"),
        (list(vec![one.replacen("https", "javascript", 1)]), 422, "connection string 1"),
        (list(vec![one.replacen("https", "ftp", 1)]), 422, "does not lead to an http or https page"),
        (with("title", json!("t".repeat(81))), 422, "the title is longer than 80 characters"),
        (with("logo", json!("hunter2")), 422, "the logo must be a data URL"),
        (with("logo", json!("data:image/svg+xml;base64,AAAA")), 422, "the logo must be a data URL"),
        (with("logo", json!("data:image/png;base64,hunter2!")), 422, "the logo is not base64"),
        (with("logo", json!("data:image/png;base64,aHVudGVyMg==")), 422, "the logo is not a picture"),
        (with("logo", json!(png(9, 9).replace("png", "jpeg"))), 422, "the logo is not a picture"),
        (with("logo", json!(tampered)), 422, "the logo is not a picture"),
        (with("logo", json!(png(4097, 1))), 422, "the logo has too many pixels"),
        // A page of one colour: few bytes, many pixels.
        (with("logo", json!(blank_png(4000, 4000))), 422, "the logo has too many pixels"),
        (
            with("logo", json!(format!("data:image/png;base64,{}", "A".repeat(1_500_000)))),
            422,
            "larger than 1 MB",
        ),
        ("x".repeat(3 << 20), 413, "at most 2097152 bytes"),
    ];
    for (request, status, sentence) in cases {
        let shown: String = request.chars().take(100).collect();
        let answer = site.post("/cards.pdf", &request).await;
        assert_eq!(answer.status, status, "{shown}: {}", answer.text());
        assert!(answer.error().contains(sentence), "{shown}: {}", answer.error());
        assert!(!answer.text().contains("hunter2"), "{shown}");
    }
    let fine = [
        with("title", json!("")),
        with("logo", json!("")),
        with("title", json!("\u{202e}\u{0}\u{1f4a9}".repeat(20))),
    ];
    for request in fine {
        assert_eq!(site.post("/cards.pdf", &request).await.status, 200, "{request}");
    }
}

/// Begins a request for cards as `client`, and returns once its head has been sent.
async fn begin(site: &Served, client: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(site.address).await.expect("it listens");
    let head = format!(
        "POST /cards.pdf HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {client}\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("it reads");
    stream
}

async fn status(stream: &mut TcpStream) -> String {
    let mut answer = vec![];
    timeout(TIMEOUT, stream.read_to_end(&mut answer)).await.expect("it answers").expect("it closes");
    String::from_utf8_lossy(&answer[9..12]).into_owned()
}

#[tokio::test]
async fn a_client_has_one_request_until_it_is_drawn() {
    let site = serve(|_, settings| {
        settings.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    })
    .await;
    let large = json!({"connection_strings": strings(64), "logo": blank_png(2000, 2000)}).to_string();
    let body = json!({"connection_strings": strings(1)}).to_string();
    let ask = async |client: &str| {
        let mut stream = begin(&site, client, &body).await;
        // A refusal comes without the body being read.
        drop(stream.write_all(body.as_bytes()).await);
        status(&mut stream).await
    };
    // The place is taken before the body: a client that sends it slowly has no second one.
    let slow = begin(&site, "192.0.2.1", &body).await;
    let refused = async { while ask("192.0.2.1").await != "429" {} };
    timeout(TIMEOUT, refused).await.expect("the slow request has the place");
    // A network has its share, and somebody else a place.
    let others: Vec<_> =
        join_all((2..9).map(async |n| begin(&site, &format!("192.0.2.{n}"), &body).await)).await;
    let refused = async { while ask("192.0.2.77").await != "429" {} };
    timeout(TIMEOUT, refused).await.expect("the network's places are taken");
    assert_eq!(ask("203.0.113.1").await, "200");
    drop((slow, others));
    let free = async { while ask("192.0.2.1").await != "200" {} };
    timeout(TIMEOUT, free).await.expect("the places come back");

    // One that hangs up after the body keeps its place until its cards are drawn.
    let mut leaving = begin(&site, "198.51.100.1", &large).await;
    leaving.write_all(large.as_bytes()).await.expect("it reads");
    let drawing = async { while ask("198.51.100.1").await != "429" {} };
    timeout(TIMEOUT, drawing).await.expect("it is drawing");
    drop(leaving);
    assert_eq!(ask("198.51.100.1").await, "429", "the drawing goes on, and so does its permit");
}
