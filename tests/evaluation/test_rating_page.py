from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from disk_pages import open_from_disk
from PIL import Image
from playwright.sync_api import Browser, Page

from pamela_rl.data.settings import SourceSettings
from pamela_rl.data.sources.opening import read_source
from pamela_rl.errors import DataError
from pamela_rl.evaluation.rating_folder import own_images, update_ratings
from pamela_rl.evaluation.rating_page import write_rating_page
from pamela_rl.evaluation.rating_sheet import RatingSheet
from pamela_rl.world.scenes import draw_scenes, random_scenes

PROMPTS = (
    "a boat </script><script>document.title='taken'</script> & <b>x</b>",
    'a "quoted" tree, with a comma; and more',
    "ein Häuschen am Fluß 🏠",
    "قارب عند الغروب",
    "a cat",
)
NAMES = ("0.png", "1.png", "2 é#?.png", "sub/3.png", "4.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five drawn scenes with odd names and prompts, to be rated, in a folder with an odd name."""
    folder = tmp_path / "Ada's images & 100%"
    (folder / "sub").mkdir(parents=True)
    for name, pixels in zip(NAMES, draw_scenes(random_scenes(len(NAMES), 0), 0)):
        Image.fromarray(pixels).save(folder / name)
    update_ratings(folder, NAMES, PROMPTS)
    return folder


def opened(browser: Browser, folder: Path, **context: Any) -> tuple[Page, list[str]]:
    return open_from_disk(browser, folder / "rate.html", lambda url: url.startswith(folder.as_uri() + "/"), **context)


def ready(page: Page, number: int, total: int = len(NAMES)) -> None:
    page.locator("#spoken", has_text=re.compile(f"^Image {number} of {total}:")).wait_for(state="attached")


def press(page: Page, code: str, key: str) -> None:
    """Press a key by its place and by what it types, as keyboards of other countries differ in the second."""
    page.evaluate(
        "([code, key]) => document.dispatchEvent(new KeyboardEvent('keydown', {code, key, bubbles: true}))", [code, key]
    )


def saved(page: Page, folder: Path) -> Path:
    with page.expect_download() as download:
        page.click("#save")
    assert download.value.suggested_filename == "ratings.csv"
    target = folder / "ratings.csv"
    download.value.save_as(target)
    return target


def test_a_user_rates_by_key_skips_goes_back_reloads_and_saves_a_table_that_is_read(
    browser: Browser, folder: Path
) -> None:
    page, wrong = opened(browser, folder, viewport={"width": 1200, "height": 900})
    page.keyboard.press("Enter")  # the button that begins has the focus
    for number, prompt in enumerate(PROMPTS[:3], start=1):
        ready(page, number)
        assert page.text_content("#prompt") == prompt
        assert page.evaluate("document.getElementById('shown').naturalWidth") == 64
        press(page, *[("Digit5", "("), ("Numpad2", "ArrowDown"), ("", "3")][number - 1])  # a French 5; NumLock off
    ready(page, 4)
    page.keyboard.press("ArrowRight")  # skipped
    ready(page, 5)
    page.reload()
    page.click("#begin")
    ready(page, 5)  # all before are kept
    for number in (4, 3):
        page.keyboard.press("Backspace")
        ready(page, number)
    assert page.get_attribute("[data-rating='3']", "aria-pressed") == "true"
    page.click("[data-rating='1']")
    ready(page, 5)
    page.keyboard.press("7")  # not on this scale
    page.keyboard.press("4")
    page.wait_for_selector("#end:not([hidden])")
    assert page.text_content("#todo") == "4 images rated, 1 skipped. Next:"
    assert page.text_content("#target") == str(folder / "ratings.csv")
    assert page.title() == "Rate images"
    saved(page, folder)
    rated, _ = read_source(SourceSettings(kind="folder", path=str(folder)))
    assert rated.table.rows[["image", "prompt", "rating"]].to_numpy().tolist() == [
        [NAMES[number], PROMPTS[number], rating] for number, rating in ((0, 5), (1, 2), (2, 1), (4, 4))
    ]
    assert wrong == []


def test_another_scale_has_its_keys_and_its_command_and_is_fixed_once_something_is_rated(
    browser: Browser, folder: Path
) -> None:
    page, wrong = opened(browser, folder)
    page.select_option("#scale", "1 to 10")
    page.click("#begin")
    for number, key in enumerate("08642", start=1):
        ready(page, number)
        page.keyboard.press(key)
    assert (page.text_content("#command") or "").endswith("--output_dir outputs/my-reward --source.scale '[1, 10]'")
    assert RatingSheet.read(saved(page, folder)).values("rating") == ["10", "8", "6", "4", "2"]
    page.reload()
    assert page.is_disabled("#scale")
    assert page.input_value("#scale") == "1 to 10"
    page.on("dialog", lambda dialog: dialog.accept())
    page.click("#clear")
    assert page.is_enabled("#scale")
    assert set(RatingSheet.read(saved(page, folder)).values("rating")) == {""}
    assert wrong == []


def test_a_started_table_is_taken_up_when_the_page_is_made_and_when_it_is_loaded(
    browser: Browser, folder: Path, tmp_path: Path
) -> None:
    sheet = folder / "ratings.csv"
    sheet.write_text('Image;Rating;note\n4.png;2,5;"x;""y"""\ngone.png;3;z\n1.png;fine;\n', encoding="utf-16")
    update_ratings(folder, NAMES, PROMPTS)
    page, wrong = opened(browser, folder)
    assert page.text_content("#count") == "5 images, 1 of them rated already."
    started = tmp_path / "started.csv"
    started.write_text('rating,image,prompt\n3,"0.png","a\n""b"", c"\n9,nowhere.png,\n,1.png,\n', encoding="utf-8")
    page.set_input_files("#table", started)
    page.locator("#saved", has_text="1 rating taken from started.csv").wait_for()
    after = RatingSheet.read(saved(page, folder))
    assert after.columns == ("Image", "Rating", "note")
    assert after.rows[:3] == (("4.png", "2,5", 'x;"y"'), ("gone.png", "3", "z"), ("1.png", "fine", ""))
    assert dict(zip(after.values("image"), after.values("rating")))["0.png"] == "3"
    page.set_input_files("#table", {"name": "x.csv", "mimeType": "text/csv", "buffer": b"a,b\n1,2\n"})
    page.locator("#saved", has_text="x.csv has no columns image and rating").wait_for()
    assert wrong == []


def test_an_image_drawn_anew_under_the_same_name_has_no_rating_of_the_old_one(browser: Browser, folder: Path) -> None:
    page, _ = opened(browser, folder)
    page.click("#begin")
    for number in (1, 2):
        ready(page, number)
        page.keyboard.press("5")
    ready(page, 3)
    Image.new("RGB", (64, 64), "red").save(folder / "0.png")
    write_rating_page(folder, RatingSheet.read(folder / "ratings.csv"))
    page.reload()
    assert page.text_content("#count") == "5 images, 1 of them rated already."


def test_a_phone_shows_image_and_buttons_without_scrolling_sideways(browser: Browser, folder: Path) -> None:
    page, wrong = opened(browser, folder, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page.select_option("#scale", "1 to 10")
    page.tap("#begin")
    ready(page, 1)
    for button in page.query_selector_all("button:visible"):
        box = button.bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) >= 44
    for number in range(1, 6):
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        ready(page, number)
        if number == 1:  # a double tap is one; two calls from here would be as far apart as the machine is busy
            page.evaluate("[1, 2].forEach(() => document.querySelector(\"[data-rating='10']\").click())")
        else:
            page.tap("[data-rating='10']")
        page.wait_for_timeout(310)
    page.wait_for_selector("#end:not([hidden])")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert wrong == []


def test_a_table_of_thousands_is_light_and_nothing_outside_the_folder_is_named(browser: Browser, folder: Path) -> None:
    outside = folder.parent / "outside.png"
    Image.new("RGB", (8, 8)).save(outside)
    names = [*NAMES, "../outside.png", str(outside), "gone.png", "https://example.org/x.png"]
    sheet = RatingSheet.new(["image", "rating"]).extended([{"image": name} for name in names * 600])
    page_file = write_rating_page(folder, sheet)
    assert page_file.stat().st_size < 1_000_000
    page, wrong = opened(browser, folder)
    assert page.text_content("#count") == "3000 images."
    page.click("#begin")
    ready(page, 1, 3000)
    page.keyboard.press("5")
    ready(page, 2, 3000)
    assert len(RatingSheet.read(saved(page, folder)).rows) == 5400
    assert wrong == []


def test_rows_are_appended_and_what_is_rated_stays_as_it_was_written(folder: Path) -> None:
    sheet = folder / "ratings.csv"
    sheet.write_bytes('image;prompt;rating;note\r\n0.png;"a; b";4;größer\r\n.\\1.png;;5,0;'.encode("cp1252"))
    before = sheet.read_bytes().decode("cp1252")
    update_ratings(folder, NAMES, PROMPTS)
    assert sheet.read_text(encoding="utf-8-sig").replace("\n", "\r\n")[: len(before)] == before
    again = RatingSheet.read(sheet)
    assert again.values("image") == ["0.png", ".\\1.png", *NAMES[2:]]
    assert again.values("prompt")[2:] == list(PROMPTS[2:])
    content = sheet.read_bytes()
    update_ratings(folder, NAMES, PROMPTS)
    assert sheet.read_bytes() == content
    assert again.num_rated == 2


def test_a_table_that_cannot_hold_ratings_of_images_is_refused_and_left_alone(folder: Path) -> None:
    sheet = folder / "ratings.csv"
    for content, sentence in (
        (b"file,rating\n0.png,3\n", r"has no column 'image'; it has 'file', 'rating'\. Name its columns image, prompt"),
        (b"image\n0.png\n", "has no column 'rating'"),
        (b"", "has no column 'image'; it has none"),
        (b"\xff\xfe\x00", "cannot be read as a table"),
    ):
        sheet.write_bytes(content)
        with pytest.raises(DataError, match=sentence):
            update_ratings(folder, NAMES, PROMPTS)
        assert sheet.read_bytes() == content


def test_images_of_ones_own_are_listed_with_their_folders_and_without_hidden_files(folder: Path) -> None:
    for hidden in (".hidden.png", ".thumbnails/0.png", "notes.txt"):
        (folder / hidden).parent.mkdir(exist_ok=True)
        (folder / hidden).write_bytes(b"")
    assert own_images(folder) == sorted(NAMES)
